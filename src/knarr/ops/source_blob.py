"""The source ops `docker-image+blob://…` and `oci-layout+blob://…`: one blob, by its digest, as a file.

The digest says all, so that nobody is asked before somebody needs the file.

Spec: BuildKit source/containerblob at v0.33 (the file's name: the digest in hex unless said; its time: 1970).
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from knarr.errors import NotFound, UsageError
from knarr.llb.ops import SourceOp
from knarr.ops import onefile
from knarr.ops.fetched import Fetched, Reach
from knarr.ops.source_layout import lent_content
from knarr.progress import Status
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.cache.record import RecordId
    from knarr.ops.world import World
    from knarr.spec.digest import Digest
    from knarr.streams import Readable

REGISTRY, LAYOUT = "docker-image+blob://", "oci-layout+blob://"
SCHEMES = (REGISTRY, LAYOUT)


@record
class BlobSource:
    """A source op, read. `store` is the ID of lent content; empty: it is in a registry."""

    reference: Reference
    digest: Digest
    look: onefile.Look
    store: str = ""


def parse(op: SourceOp) -> BlobSource:
    """The op as values.

    Raises:
        UsageError: it names no digest, or an attribute cannot be meant.
    """
    scheme, _, name = op.identifier.partition("://")
    reference = Reference.parse(name)
    if reference.digest is None:
        raise UsageError(f"{op.identifier}: checksum required in blob reference", hint="name it as NAME@sha256:…")
    store = op.attrs.get("oci.store", "")
    if f"{scheme}://" == LAYOUT and not store:
        raise UsageError(f"{op.identifier}: oci-layout blob source requires store id")  # BuildKit's words
    look = onefile.look_of(op.attrs, op.identifier)
    return BlobSource(reference, reference.digest, look, store if f"{scheme}://" == LAYOUT else "")


def resolve(world: World, op: SourceOp, vertex: str) -> Fetched:
    """The blob, which is fetched when the tree is made.

    Raises:
        UsageError: see `parse`.
    """
    source = parse(op)
    said = {
        "Digest": str(source.digest),
        "Filename": onefile.safe_name(source.look.filename, "") if source.look.filename else "",
        "Perm": source.look.perm,
        "UID": source.look.uid,
        "GID": source.look.gid,
    }
    key = hashlib.sha256(json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
    make = partial(_make, world, source, vertex)
    return Fetched(f"blob:{key}", make, True, f"sha256:{key}", str(source.digest))


def _make(world: World, source: BlobSource, vertex: str, record: RecordId) -> RecordId:
    size = world.store.find(source.digest)
    if size is None:
        size = _fetch(world, source, vertex)
    name = onefile.safe_name(source.look.filename, source.digest.hex)
    return onefile.write(world, source.look, name, source.digest, size, 0, record)


def _fetch(world: Reach, source: BlobSource, vertex: str) -> int:
    """Take the blob into the store; its size."""
    started = time.time_ns()
    descriptor, content = _open(world, source)

    def tell(size: int, *, done: bool = False) -> None:
        world.sink.send(Status(vertex, str(source.digest), size, descriptor.size, done, started, time.time_ns()))

    with content as stream:
        world.store.push(descriptor, stream, report=tell)
    world.scope.check()
    tell(descriptor.size, done=True)
    return descriptor.size


def _open(world: Reach, source: BlobSource) -> tuple[Descriptor, AbstractContextManager[Readable]]:
    if source.store:
        lent = lent_content(world.session, source.store)
        descriptor = Descriptor("", source.digest, _known(lent.size_of(source.digest), source, "the OCI layout"))
        return descriptor, lent.open(descriptor)
    repository = world.registry().repository(source.reference, scope=world.scope)
    descriptor = Descriptor("", source.digest, _known(repository.size_of(source.digest), source, repository.name))
    return descriptor, repository.open(descriptor)


def _known(size: int | None, source: BlobSource, where: str) -> int:
    if size is None:
        raise NotFound(f"{source.reference.familiar}: no such blob in {where}")
    return size
