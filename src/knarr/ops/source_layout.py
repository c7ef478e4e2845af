"""The source op `oci-layout://…`: an image out of content that the caller lends, by its digest.

The documents come when the frontend asks for the configuration; the layers come here,
into the content store, and are then base layers like any others.

Spec: BuildKit source/containerimage, identifier_ocilayout (attributes `oci.store`, `oci.session`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from knarr.errors import ContentError, NotFound, Unsupported
from knarr.llb.ops import SourceOp
from knarr.ops.fetched import Reach
from knarr.progress import Status
from knarr.session.session import LendsContent, LentContent, Session
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.cache.record import RecordId
    from knarr.ops.images import Found, Images

SCHEME = "oci-layout://"


def resolve(world: Reach, images: Images, op: SourceOp, platform: Platform, vertex: str) -> tuple[str, RecordId]:
    """(key, record): the chain of layers, which are in the store then.

    Raises:
        NotFound: the caller lends no such content, or it lacks something.
        ContentError: it is no image, or the identifier has no digest.
    """
    found = look(world.session, images, op, platform)
    content = lent_content(world.session, op.attrs.get("oci.store", ""))
    record = images.records(found)  # first, so that nobody takes the layers for garbage
    _take_in(world, content, found, vertex)
    return record, record


def look(session: Session, images: Images, op: SourceOp, platform: Platform) -> Found:
    """The image that `op` names; its layers stay where they are. Raises as `resolve`."""
    reference = Reference.parse(op.identifier.removeprefix(SCHEME))
    if reference.digest is None:
        raise ContentError(f"{op.identifier}: an OCI layout is named with a digest")
    content = lent_content(session, op.attrs.get("oci.store", ""))
    return images.find_lent(content, reference.digest, reference, platform)


def lent_content(session: Session, store: str) -> LentContent:
    """The content lent under the ID `store`.

    Raises:
        NotFound: the caller lends none by this ID.
        Unsupported: the caller is one that cannot lend any.
    """
    if not isinstance(session, LendsContent):
        raise Unsupported("OCI layouts are not lent by this client", hint="push the image to a registry instead")
    content = session.content(store)
    if content is None:
        raise NotFound(f"no OCI layout is lent as {store!r}")
    return content


def find(session: Session, images: Images, store: str, digest: Digest, name: str, platform: Platform) -> Found:
    """The image for a frontend that asks for its configuration; `name` is for messages."""
    return images.find_lent(lent_content(session, store), digest, Reference.parse(name), platform)


def _take_in(world: Reach, content: LentContent, found: Found, vertex: str) -> None:
    for layer in found.manifest.layers:
        if world.store.has(layer):
            continue
        started = time.time_ns()

        def tell(size: int, *, done: bool = False, layer: str = str(layer.digest), total: int = layer.size) -> None:
            world.sink.send(Status(vertex, layer, size, total, done, started, time.time_ns()))  # noqa: B023

        with content.open(layer) as stream:
            world.store.push(layer, stream, report=tell)
        world.scope.check()
        tell(layer.size, done=True)
