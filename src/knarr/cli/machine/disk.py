"""Where trees of files live: the disk below the state directory, and which snapshotter works on it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from knarr import linux
from knarr.cli.machine.finding import Finding
from knarr.cli.machine.kernel import in_a_namespace
from knarr.config import Settings
from knarr.errors import KnarrError

_FICLONE = 0x40049409


def look(settings: Settings) -> Iterator[Finding]:
    """Look at the state directory; trial files and mounts are taken away again."""
    root = settings.snapshots
    os.makedirs(root, mode=0o711, exist_ok=True)
    yield _state(settings.root)
    yield (
        Finding("ok", "mounts", "builds have mounts of their own, which nobody else sees")
        if linux.mounts_isolated()
        else Finding("limited", "mounts", "nothing can be mounted", used="trees where they lie")
        if not linux.may_mount()
        else Finding("limited", "mounts", "builds mount in this machine's own namespace")
    )
    yield from _snapshotters(settings, root)
    yield _reflink(root)
    yield _attributes(root)


def _state(root: Path) -> Finding:
    free = os.statvfs(root)
    left = free.f_bavail * free.f_frsize
    text = f"{root}, {left / 1e9:.1f} GB free"
    if left < 1 << 30:
        return Finding("limited", "state", text, "make room (knarr prune), or set KNARR_ROOT to a larger disk")
    return Finding("ok", "state", text)


def _snapshotters(settings: Settings, root: Path) -> Iterator[Finding]:
    from knarr.snapshot import choose
    from knarr.snapshot.fuseoverlayfs import why_not as why_not_fuse

    if settings.snapshotter.startswith("containerd"):
        yield Finding("ok", "snapshotter", settings.snapshotter, used="yes")
        return
    overlay = choose.why_not_overlayfs(root)
    fuse = why_not_fuse(root)
    try:
        used = choose.choose(root, settings.snapshotter or "auto").name
    except KnarrError as error:
        yield Finding("WRONG", "snapshotter", error.message, error.hint)
        return
    cost = {"native": "each step copies its tree", "fuse-overlayfs": "each read and write goes through a process"}
    verdict = "ok" if used == "overlayfs" else "limited"
    hint = "" if used == "overlayfs" else f"overlayfs: {overlay}"
    yield Finding(verdict, "snapshotter", used, hint, used="yes", cost=cost.get(used, ""))
    yield Finding("ok", "overlayfs", overlay or "works", used="yes" if used == "overlayfs" else "no")
    if not linux.is_root_by_namespace() and linux.may_mount():
        inside = in_a_namespace(lambda: choose.trial(root))
        yield Finding("ok", "overlayfs rootless", inside or "works in a user namespace", used="no")
    yield Finding("ok", "fuse-overlayfs", fuse or "works", used="yes" if used == "fuse-overlayfs" else "no")


def _reflink(root: Path) -> Finding:
    source, target = root / f"clone-{os.getpid()}-a", root / f"clone-{os.getpid()}-b"
    try:
        source.write_bytes(bytes(4096))
        with open(source, "rb") as reading, open(target, "wb") as writing:
            fcntl.ioctl(writing, _FICLONE, reading.fileno())
    except OSError as error:
        return Finding("ok", "reflink", f"no: {error.strerror}", used="no", cost="native snapshots copy data")
    finally:
        for path in (source, target):
            path.unlink(missing_ok=True)
    return Finding("ok", "reflink", "works", used="by native snapshots")


def _attributes(root: Path) -> Finding:
    try:
        os.setxattr(root, "user.knarr.trial", b"1")
        os.removexattr(root, "user.knarr.trial")
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
        hint = "put KNARR_ROOT on ext4, xfs, btrfs or an overlay: without root, owners and devices are noted in them"
        return Finding("limited", "user attributes", f"no: {error.strerror}", hint)
    return Finding("ok", "user attributes", "work")
