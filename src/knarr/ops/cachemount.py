"""Cache mounts: directories that outlive a build and are in no layer.

Identity is the mount's id and the tree it begins with (`from`, or the scratch
directory that carries uid, gid and mode), not the platform (build.md §1.6). The
sharing modes are file locks, so they hold between processes too: `shared` takes
a shared lock, `locked` waits for an exclusive one, `private` takes the first
directory nobody has.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from knarr import virtual
from knarr.cache.record import RecordId
from knarr.errors import KnarrError
from knarr.llb.ops import CacheOpt, CacheSharing
from knarr.ops.copytree import CopyOptions, copy_all
from knarr.ops.world import World
from knarr.paths import inside
from knarr.progress import Status, Warned


@contextmanager
def cache_directory(world: World, option: CacheOpt, base: RecordId | None, selector: str) -> Iterator[Path]:
    """The directory of a cache mount, locked in its sharing mode while the context lasts."""
    key = hashlib.sha256(f"{option.id}\0{base or ''}".encode()).hexdigest()
    root = world.settings.root / "cachemounts"
    root.mkdir(parents=True, exist_ok=True)
    for number in _numbers(option.sharing):
        place = root / (key if number == 0 else f"{key}.{number}")
        lock = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _lock(world, lock, option.sharing):
                _fill(world, place, option, base, key if number == 0 else "")
                yield Path(inside(place / "tree", selector))
                os.utime(place)  # last use, for prune
                return
        finally:
            os.close(lock)


def forget(root: Path, ids: Collection[str]) -> None:
    """Empty the cache mounts of these ids, for steps that are to run as if they never had; those in use stay."""
    from shutil import rmtree

    base = root / "cachemounts"
    for place in sorted(base.iterdir()) if base.is_dir() else ():
        if place.is_dir() and _id_of(place) in ids:
            lock = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rmtree(place / "tree", ignore_errors=True)
            except BlockingIOError:
                continue
            finally:
                os.close(lock)


def _id_of(place: Path) -> str | None:
    try:
        return str(json.loads((place / "info.json").read_text())["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _numbers(sharing: CacheSharing) -> Iterator[int]:
    yield 0
    number = 0
    while sharing is CacheSharing.PRIVATE:
        number += 1
        yield number


def _lock(world: World, lock: int, sharing: CacheSharing) -> bool:
    wanted = fcntl.LOCK_SH if sharing is CacheSharing.SHARED else fcntl.LOCK_EX
    while True:
        try:
            fcntl.flock(lock, wanted | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if sharing is CacheSharing.PRIVATE:
                return False
            world.scope.sleep(0.05)  # flock has no timeout; this keeps a waiter cancellable


def _fill(world: World, place: Path, option: CacheOpt, base: RecordId | None, key: str) -> None:
    """Make the directory on its first use, as a shared cache has it or as a copy of the base.

    A half-made one is not visible. `key` is what a shared cache knows it by, empty for none.
    """
    if (place / "tree").exists():
        return
    place.mkdir(exist_ok=True)
    fresh = place / f"new-{os.getpid()}-{time.time_ns():x}"
    _make_empty(fresh)
    has_content = key != "" and _fill_from_cache(world, fresh, option, key)
    if base is not None:
        with world.trees.readable(base) as tree:
            if not has_content:
                copy_all(tree, ["/"], str(fresh), "/", CopyOptions(contents=True), check=world.scope.check)
            top = os.stat(tree.root)
            virtual.chown(str(fresh), top.st_uid, top.st_gid)
            os.chmod(fresh, top.st_mode & 0o7777)
    (place / "info.json").write_text(json.dumps({"id": option.id, "base": base, "created_ns": time.time_ns()}))
    try:
        os.rename(fresh, place / "tree")
    except OSError:  # another process was first: its directory is as good
        from shutil import rmtree

        rmtree(fresh)


def _make_empty(place: Path) -> None:
    place.mkdir(mode=0o755)
    os.chmod(place, 0o755)


def _fill_from_cache(world: World, fresh: Path, option: CacheOpt, key: str) -> bool:
    """Unpack what a shared cache has of the mount; whether there was something, and all of it came."""
    seed = next((found for find in world.mount_seeds if (found := find(key)) is not None), None)
    if seed is None:
        return False
    from knarr.layer.apply import unpack_archive
    from knarr.layer.decompress import open_compressed

    shown = f"cache mount {option.id} from {seed.origin.name}"

    def report(done: int) -> None:
        world.scope.check()
        world.sink.send(Status(shown, str(seed.blob.digest), done, seed.blob.size, done=done == seed.blob.size))

    try:
        if not world.store.has(seed.blob):
            with seed.origin.place.open(seed.blob) as stream:
                world.store.push(seed.blob, stream, report=report)
        with world.store.open(seed.blob) as stream:
            unpack_archive(open_compressed(stream), fresh, check=world.scope.check)
    except KnarrError as error:
        from shutil import rmtree

        world.sink.send(Warned(shown, f"{shown} is not used: {error.message}"))
        rmtree(fresh)
        _make_empty(fresh)
        return False
    return True
