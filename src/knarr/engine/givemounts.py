"""The cache mounts that `--cache-to …,mounts=ID` asks for, as layers: equal directories give equal blobs."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cache.sharedmounts import described, is_same_id
from knarr.errors import KnarrError
from knarr.layer.diff import Options, write_tree
from knarr.layer.pack import pack
from knarr.spec.descriptor import Descriptor

if TYPE_CHECKING:
    from knarr.engine.sharing import Sharing
    from knarr.export.vertex import Vertex
    from knarr.layer.compress import Compression
    from knarr.ops.blobs import Blobs
    from knarr.ops.world import World

_PATIENCE_S = 30.0  # for steps of other builds that use the mount; longer ones keep what the cache had


def pack_mounts(
    ids: Sequence[str], compression: Compression, world: World, blobs: Blobs, sharing: Sharing, vertex: Vertex
) -> list[Descriptor]:
    """The layers of the cache mounts `ids`: as they are here, or else as `--cache-from` has them."""
    found: dict[str, Descriptor] = {}
    for id in dict.fromkeys(ids):
        before = [mount for mount in sharing.mounts() if is_same_id(mount.id, id)]
        own = _own(id, compression, world, vertex)
        for mount in before:
            if mount.key not in own:
                blobs.lend(mount.blob.digest, mount.origin.place)
                own[mount.key] = described(mount.blob, mount.id, mount.key)
        if not own:
            vertex.warn(f"cache mount {id}: no step has used one of this id, so the cache has none")
        found.update(own)
    return [found[key] for key in sorted(found)]


def _own(id: str, compression: Compression, world: World, vertex: Vertex) -> dict[str, Descriptor]:
    """The mounts of this id on this machine, by key."""
    found = {}
    for place in _places(world.settings.root / "cachemounts", id):
        with vertex.phase(f"packing cache mount {id}"):
            try:
                with _alone(world, place):
                    found[place.name] = _packed(place, compression, world)
            except KnarrError as error:
                vertex.warn(f"cache mount {id} stays as the cache had it: {error.message}")
    return found


def _places(root: Path, id: str) -> Iterator[Path]:
    """The directories of the mount; the further ones that `sharing=private` makes are not shared."""
    for info in sorted(root.glob("*/info.json")):
        try:
            known = str(json.loads(info.read_text())["id"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if is_same_id(known, id) and "." not in info.parent.name:
            yield info.parent


def _packed(place: Path, compression: Compression, world: World) -> Descriptor:
    id = str(json.loads((place / "info.json").read_text())["id"])
    check = world.scope.check
    made = pack(
        lambda out: write_tree(place / "tree", out, options=Options(check=check)),
        world.store,
        compression=compression,
        check=check,
    )
    return described(made.descriptor, id, place.name)


@contextmanager
def _alone(world: World, place: Path) -> Iterator[None]:
    """Nobody writes to the mount meanwhile.

    Raises:
        KnarrError: somebody does, for too long.
    """
    lock = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise KnarrError("a step of another build is using it") from None
                world.scope.sleep(0.05)
        yield
    finally:
        os.close(lock)
