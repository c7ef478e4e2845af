"""Mounts made real: the `Mount` records of a snapshotter attached at a directory, and taken off again.

An overlay may have hundreds of lower directories, and the kernel cuts the
option text of mount(2) at one page. Then the newer calls of Linux 6.5 are used
(`lowerdir+`, one directory per call), or, on older kernels, names relative to
a common directory, given from a thread that has a working directory of its own.
The kernel's limit of 500 directories remains.

    with mounted(snapshotter.prepare("new", parent), Path("/run/x")) as tree:
        (tree / "etc/motd").write_text("hello")
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from knarr import linux
from knarr.errors import ContentError, KnarrError
from knarr.snapshot.snapshotter import LOST, Mount

_FLAGS = {
    "ro": linux.MS_RDONLY,
    "rw": 0,
    "nosuid": linux.MS_NOSUID,
    "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC,
    "sync": linux.MS_SYNCHRONOUS,
    "noatime": linux.MS_NOATIME,
    "nodiratime": linux.MS_NODIRATIME,
    "relatime": linux.MS_RELATIME,
    "strictatime": linux.MS_STRICTATIME,
    "bind": linux.MS_BIND,
    "rbind": linux.MS_BIND | linux.MS_REC,
}
_HINTS = {errno.EPERM: "mounting needs root (CAP_SYS_ADMIN)", errno.ENOENT: LOST}
_PAGE = 4096 - 1  # the kernel wants the final NUL inside the page
_MOST_LOWERS = 500  # OVL_MAX_STACK of fs/overlayfs


@contextmanager
def mounted(mounts: Sequence[Mount], at: Path) -> Iterator[Path]:
    """The mounts attached at `at` (made if missing, then removed in the end) while in the block.

    Where nothing may be mounted, a tree that only would be shown at `at` is used where it lies.

    Raises:
        KnarrError: the kernel refused a mount; nothing stays mounted.
    """
    if not linux.may_mount() and all("bind" in mount.options for mount in mounts):
        yield Path(mounts[-1].source)
        return
    made = False
    try:
        os.mkdir(at, 0o700)
        made = True
    except FileExistsError:
        pass
    try:
        attach(mounts, at)
        try:
            yield at
        finally:
            for _ in mounts:
                detach(at)
    finally:
        if made:
            os.rmdir(at)


def attach(mounts: Sequence[Mount], at: Path) -> None:
    """Mount each of `mounts` at `at`, one over the other; all or none.

    Raises:
        KnarrError: the kernel refused.
    """
    for done, mount in enumerate(mounts):
        try:
            _attach_one(mount, os.fspath(at))
        except OSError as error:
            for _ in range(done):
                detach(at)
            raise KnarrError(
                f"cannot mount {mount.type} at {at}: {error.strerror or error}",
                hint=_HINTS.get(error.errno or 0, ""),
            ) from error


def detach(at: Path) -> None:
    """Unmount the topmost mount at `at`; lazily when something still uses it. Nothing mounted is success."""
    path = os.fspath(at)
    try:
        linux.umount(path, linux.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.EBUSY:
            linux.umount(path, linux.UMOUNT_NOFOLLOW | linux.MNT_DETACH)
        elif error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def _attach_one(mount: Mount, at: str) -> None:
    flags, options = 0, []
    for option in mount.options:
        flag = _FLAGS.get(option)
        if flag is None:
            options.append(option)
        else:
            flags |= flag
    if flags & linux.MS_BIND:
        _bind(mount.source, at, flags)
        return
    if mount.type == "overlay":
        _overlay(at, flags, options)
        return
    if mount.type == "fuse-overlayfs":
        from knarr.snapshot import fuseoverlayfs

        fuseoverlayfs.mount(at, (*options, *(("ro",) if flags & linux.MS_RDONLY else ())))
        return
    linux.mount(mount.source, at, mount.type, flags, ",".join(options))


def _bind(source: str, at: str, flags: int) -> None:
    linux.mount(source, at, "", flags & (linux.MS_BIND | linux.MS_REC))
    extra = flags & ~(linux.MS_BIND | linux.MS_REC)
    if not extra:
        return
    try:  # a bind takes its flags only in a second call
        linux.mount(source, at, "", linux.MS_BIND | linux.MS_REMOUNT | extra)
    except OSError:
        linux.umount(at, linux.UMOUNT_NOFOLLOW | linux.MNT_DETACH)
        raise


def _overlay(at: str, flags: int, options: list[str]) -> None:
    text = ",".join(option.replace(",", "\\,") for option in options)
    if len(os.fsencode(text)) <= _PAGE:
        linux.mount("overlay", at, "overlay", flags, text)
        return
    lowers = [path for option in options if option.startswith("lowerdir=") for path in split_lowers(option[9:])]
    if len(lowers) > _MOST_LOWERS:
        raise ContentError(
            f"{len(lowers)} layers on top of one another: the kernel's overlay takes {_MOST_LOWERS}",
            hint="flatten the base image, or join RUN and COPY instructions",
        )
    others = [option for option in options if not option.startswith("lowerdir=")]
    try:
        _overlay_by_calls(at, flags, lowers, others)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        _overlay_by_short_names(at, flags, lowers, others)


def split_lowers(value: str) -> list[str]:
    """The directories of an overlay's `lowerdir=`: separated by colons, `\\\\` escapes."""
    if "\\" not in value:
        return value.split(":")
    parts, current, escaped = [], "", False
    for letter in value:
        if escaped:
            current, escaped = current + letter, False
        elif letter == "\\":
            escaped = True
        elif letter == ":":
            parts.append(current)
            current = ""
        else:
            current += letter
    return [*parts, current]


def escape_lower(path: str) -> str:
    """`path` as it may stand in `lowerdir=`."""
    return path.replace("\\", "\\\\").replace(":", "\\:")


def _overlay_by_calls(at: str, flags: int, lowers: list[str], options: list[str]) -> None:
    """By fsconfig(2); `lowerdir+` exists since Linux 6.5, EINVAL before."""
    fs = linux.fsopen("overlay")
    try:
        for lower in lowers:
            linux.fsconfig(fs, "lowerdir+", lower)
        for option in options:
            key, equals, value = option.partition("=")
            linux.fsconfig(fs, key, value if equals else None)
        # MOUNT_ATTR_RDONLY, NOSUID, NODEV and NOEXEC have the numbers of their MS_ twins.
        linux.fsmount(fs, at, flags & 0xF)
    finally:
        os.close(fs)


def _overlay_by_short_names(at: str, flags: int, lowers: list[str], options: list[str]) -> None:
    """By mount(2) from a working directory that makes the names short."""
    import threading

    base = os.path.commonpath(lowers)
    names = ":".join(escape_lower(os.path.relpath(lower, base)) for lower in lowers)
    text = ",".join([f"lowerdir={names}", *options])
    if len(os.fsencode(text)) > _PAGE:
        raise ContentError(
            f"{len(lowers)} layers on top of one another do not fit one mount call of this kernel",
            hint="use Linux 6.5 or newer, or flatten the base image",
        )
    failures: list[OSError] = []

    def call() -> None:
        try:
            linux.unshare(linux.CLONE_FS)  # a working directory for this thread alone
            os.chdir(base)
            linux.mount("overlay", at, "overlay", flags, text)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=call, name="overlay-mount")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
