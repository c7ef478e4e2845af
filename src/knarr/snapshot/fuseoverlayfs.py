"""Snapshots on fuse-overlayfs: overlay as a program, for kernels whose own cannot be mounted by this user.

The directories are those of `overlayfs`. What fuse-overlayfs writes in its own way, an opaque
directory, is written in overlay's when the snapshot is committed.

Spec: fuse-overlayfs(1), version 1.10, as Debian has it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from knarr.snapshot.ledger import Entry
from knarr.snapshot.overlayfs import Overlayfs
from knarr.snapshot.snapshotter import Mount

PROGRAM = "fuse-overlayfs"
_OPAQUE_FILE = ".wh..wh..opq"
_OPAQUE = "user.fuseoverlayfs.opaque"
_PLACES = ("/usr/bin", "/usr/local/bin", "/bin")


class FuseOverlayfs(Overlayfs):
    """The driver of second choice: nothing is copied, but each access goes through a process."""

    name = PROGRAM

    def __init__(self, root: Path, *, lasting: bool = False) -> None:
        super().__init__(root, lasting=lasting)
        self._plain = self._options = ()

    def _mounts(self, entry: Entry) -> tuple[Mount, ...]:
        return _by_program(super()._mounts(entry))

    def over(self, parent: str | None, place: Path, *, fleeting: bool = False) -> tuple[Mount, ...]:
        return _by_program(super().over(parent, place, fleeting=fleeting))

    def _settle(self, entry: Entry) -> None:
        super()._settle(entry)
        _as_overlay(self._fs(entry.id))


def _by_program(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    return tuple(Mount(PROGRAM, PROGRAM, mount.options) if mount.type == "overlay" else mount for mount in mounts)


def _as_overlay(top: str) -> None:
    """Say of opaque directories what overlayfs would say."""
    todo = [top]
    while todo:
        here = todo.pop()
        with os.scandir(here) as entries:
            found = list(entries)
        todo += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
        marked = any(entry.name == _OPAQUE_FILE for entry in found) or _has(here, _OPAQUE)
        if not marked:
            continue
        info = os.lstat(here)
        with suppress(FileNotFoundError):
            os.unlink(f"{here}/{_OPAQUE_FILE}")
        if _has(here, _OPAQUE):
            os.removexattr(here, _OPAQUE)
        os.setxattr(here, "user.overlay.opaque", b"y")
        os.utime(here, ns=(info.st_atime_ns, info.st_mtime_ns))


def _has(path: str, name: str) -> bool:
    try:
        os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return False
    return True


def program() -> str:
    """Where fuse-overlayfs is installed; empty when it is not."""
    places = dict.fromkeys((*os.environ.get("PATH", os.defpath).split(":"), *_PLACES))
    found = (f"{place}/{PROGRAM}" for place in places if place)
    return next((path for path in found if os.access(path, os.X_OK)), "")


def mount(at: str, options: tuple[str, ...]) -> None:
    """Mount at `at`; returns when the file system is there. Its process ends when it is unmounted.

    Raises:
        OSError: the program is not installed, or failed; its own words are the text.
    """
    path = program()
    if not path:
        raise OSError(None, "fuse-overlayfs is not installed", at)
    back, says = os.pipe()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    argv = [path, *(("-o", ",".join(options)) if options else ()), at]
    try:
        # What stays in the background must not hold our streams, so its words go to a pipe that it closes.
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, says, 2)]
        pid = os.posix_spawn(path, argv, {"PATH": os.defpath}, file_actions=actions)
    finally:
        os.close(says)
        os.close(null)
    _, status = os.waitpid(pid, 0)
    os.set_blocking(back, False)
    with open(back, "rb", buffering=0) as stream:
        words = (stream.read() or b"").decode(errors="replace").strip()
    if status:
        raise OSError(None, words.rpartition("\n")[2] or "fuse-overlayfs failed", at)


def why_not(root: Path) -> str:
    """The reason why it does not work below `root`; empty when it does."""
    if not program():
        return "fuse-overlayfs is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    from knarr.snapshot.choose import trial

    return trial(root, kind=PROGRAM)
