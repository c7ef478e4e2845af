"""The source op `docker-image://…`: a tag or a digest becomes a chain of layer records."""

from __future__ import annotations

from knarr.cache.record import EMPTY, RecordId
from knarr.errors import ContentError, UsageError
from knarr.llb.ops import SourceOp
from knarr.ops.images import Found, Images
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

SCHEME = "docker-image://"


def resolve(images: Images, op: SourceOp, platform: Platform) -> tuple[str, RecordId]:
    """(key, record): the key is the chain of layers, so that two images with equal layers share the cache.

    Raises:
        NotFound, RegistryError: see `Images.find`.
        ContentError: the image is not the one the graph pins.
    """
    found = find(images, op, platform)
    pinned = op.attrs.get("image.checksum")
    if pinned and pinned != found.digest:
        name = found.reference.familiar
        raise ContentError(f"image digest {found.digest} for {name} does not match expected checksum {pinned}")
    record = images.records(found, limit=layer_limit(op, "image.layerlimit"))
    return record, record


def layer_limit(op: SourceOp, attribute: str) -> int | None:
    """How many of an image's layers are wanted, from the bottom; None: all.

    Raises:
        UsageError: it is not a number above 0.
    """
    text = op.attrs.get(attribute)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise UsageError(f"invalid layer limit {text}", hint="a number above 0")
    return int(text)


def find(images: Images, op: SourceOp, platform: Platform) -> Found:
    """The image that `op` names; asked for once in a build."""
    return images.find(Reference.parse(op.identifier.removeprefix(SCHEME)), platform)


def pin(images: Images, op: SourceOp, platform: Platform) -> str:
    """The digest that the image's name led to, of an index where there is one."""
    return str(find(images, op, platform).digest)


def shared_keys(images: Images, op: SourceOp, platform: Platform, record: RecordId) -> tuple[str, ...]:
    """What BuildKit calls the image that was resolved to `record`: by what its name led to, and by its layers."""
    from knarr.solver.sharedkeys import image_key

    if "image.layerlimit" in op.attrs:
        return layer_keys(record)
    return (image_key(find(images, op, platform).digest, platform), *layer_keys(record))


def layer_keys(record: RecordId) -> tuple[str, ...]:
    """What BuildKit calls an image by its layers: their chainID, and nothing if it has none."""
    return () if record == EMPTY else (record.removeprefix("layer:"),)
