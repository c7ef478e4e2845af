"""How "this was deleted" is written: in a layer tar, and in the directories of overlayfs.

In a tar an empty file `.wh.name` deletes `name` of lower layers, and
`.wh..wh..opq` all they have in its directory (image-spec v1.1, layer.md,
"Whiteouts"). Overlayfs writes the first as a character device 0:0, or as an
empty file with the attribute `overlay.whiteout`, and the second as the attribute
`overlay.opaque` on the directory (kernel, filesystems/overlayfs.rst). The
attributes are in `trusted.`, or in `user.` where the mount says `userxattr`.
"""

from __future__ import annotations

import errno
import os
import stat

from knarr.errors import LayerInvalid

PREFIX = ".wh."
OPAQUE = ".wh..wh..opq"
NAMESPACES = ("trusted.overlay.", "user.overlay.")


def hidden_by(name: str) -> str | None:
    """The name that the file name `name` deletes, or None if it is an ordinary name. Not for `OPAQUE`.

    Raises:
        LayerInvalid: it would delete its own directory, or lead outside it.
    """
    if not name.startswith(PREFIX):
        return None
    hidden = name.removeprefix(PREFIX)
    if hidden in ("", ".", ".."):
        raise LayerInvalid(f"{name}: a whiteout that names nothing")
    return hidden


def marker(name: str) -> str:
    """The name of the file that deletes `name`."""
    return PREFIX + name


def is_overlay_whiteout(status: os.stat_result, path: str) -> bool:
    """Whether the file with this status, at `path`, is overlayfs's word for "deleted"."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if status.st_size or not stat.S_ISREG(status.st_mode):
        return False
    return any(_xattr(path, f"{namespace}whiteout") is not None for namespace in NAMESPACES)


def is_overlay_opaque(directory: str | int) -> bool:
    """Whether the directory (a path or an open file) hides what lower layers have in it."""
    # "x" marks a directory that holds whiteouts in attributes; it hides nothing by itself.
    return any(_xattr(directory, f"{namespace}opaque") == b"y" for namespace in NAMESPACES)


def overlay_redirect(directory: str | int) -> bool:
    """Whether the directory was renamed on a mount with `redirect_dir`, so that its content is elsewhere."""
    return any(_xattr(directory, f"{namespace}redirect") for namespace in NAMESPACES)


def _xattr(path: str | int, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=isinstance(path, int))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return None
        raise
