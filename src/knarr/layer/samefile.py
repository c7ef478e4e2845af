"""Whether two files are the same as far as a layer can tell.

The rule is containerd's (continuity, and BuildKit's overlay differ): equal
owner, mode and device, equal kept attributes; for files also equal size and
modification time. Where both times have no fraction of a second they may have
been cut by a tar, and the content decides. Between trees of different origin it
decides in any case: two steps that ran at the same moment give equal times, and
one of the trees may have been unpacked and the other not.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping

from knarr import virtual
from knarr.layer.tar import NO_XATTRS
from knarr.streams import CHUNK

_SECOND_NS = 10**9
_OURS = ("user.overlay.", "user.fuseoverlayfs.", virtual.NOTE)


def same(a: os.stat_result, a_path: str, b: os.stat_result, b_path: str, *, by_content: bool = False) -> bool:
    """Whether a layer that has `a` needs no entry to get `b`. Directories are compared without their content.

    `by_content`: equal times say nothing, the files are of different origin.
    """
    if a.st_ino == b.st_ino and (a.st_dev == b.st_dev or _shown_through(a, b)):
        return True
    if a.st_mode != b.st_mode or a.st_uid != b.st_uid or a.st_gid != b.st_gid or a.st_rdev != b.st_rdev:
        return False
    is_directory = stat.S_ISDIR(a.st_mode)
    if not is_directory and (a.st_size != b.st_size or not _same_time(a.st_mtime_ns, b.st_mtime_ns, by_content)):
        return False
    if kept_xattrs(a_path) != kept_xattrs(b_path):
        return False
    if is_directory or (a.st_mtime_ns % _SECOND_NS and not by_content):
        return True
    if stat.S_ISLNK(a.st_mode):
        return os.readlink(a_path) == os.readlink(b_path)
    return not stat.S_ISREG(a.st_mode) or _equal_content(a_path, b_path)


def _same_time(a_ns: int, b_ns: int, may_be_cut: bool) -> bool:
    if a_ns == b_ns:
        return True
    return may_be_cut and a_ns // _SECOND_NS == b_ns // _SECOND_NS and not (a_ns % _SECOND_NS and b_ns % _SECOND_NS)


def _shown_through(a: os.stat_result, b: os.stat_result) -> bool:
    """Whether one is the other as an overlay shows it: with its inode number and times, and a device of the overlay's.

    It spares reading both: of files out of a tar no time tells them apart.
    """
    return a.st_ctime_ns == b.st_ctime_ns and a.st_size == b.st_size and stat.S_ISREG(a.st_mode & b.st_mode)


def _equal_content(a_path: str, b_path: str) -> bool:
    with open(a_path, "rb", buffering=0) as a, open(b_path, "rb", buffering=0) as b:
        while True:
            data = a.read(CHUNK)
            if data != b.read(CHUNK):
                return False
            if not data:
                return True


def kept_xattrs(file: str | int, is_kept: Callable[[str], bool] | None = None) -> Mapping[str, bytes]:
    """The extended attributes that `is_kept` takes (by default `in_layer`); `file` is a path (not followed) or open."""
    try:
        names = os.listxattr(file, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return NO_XATTRS
        raise
    if not names:
        return NO_XATTRS
    is_kept = is_kept or in_layer
    return {name: os.getxattr(file, name, follow_symlinks=isinstance(file, int)) for name in names if is_kept(name)}


def in_layer(name: str) -> bool:
    """Whether the attribute `name` is part of a layer: of containerd and BuildKit only capabilities are."""
    return name == "security.capability"


def in_tree(name: str) -> bool:
    """Whether the attribute `name` belongs to the files as such, not to this machine.

    Left out are labels of SELinux, AppArmor and IMA, `trusted.*`, and overlayfs's own notes.
    """
    return (
        name == "security.capability"
        or (
            name.startswith("user.")
            and name != virtual.NOTE
            and not name.startswith(("user.overlay.", "user.fuseoverlayfs."))
        )
        or name.startswith("system.posix_acl_")
    )
