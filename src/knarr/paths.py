"""A path resolved inside a root: nothing an image, a tar or a Dockerfile names may lead outside it.

Symlinks are followed as if `root` were `/` (an absolute target starts again at
the root, `..` at the top stays there), like `openat2(RESOLVE_IN_ROOT)`. The
tree must not change meanwhile: use it on snapshots this process owns.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from knarr.errors import LayerInvalid

_MAX_LINKS = 255  # the kernel follows 40; Go's secure join, which the field uses, 255


def clean(path: str) -> str:
    """`path` as an absolute, normalised path inside an image: `../x`, `/x` and `x/` all give `/x`."""
    normal = os.path.normpath("/" + path)
    return "/" + normal.lstrip("/")


def inside(root: Path | str, path: str | PurePosixPath, *, follow_last: bool = True) -> str:
    """The real path on this machine of the image path `path` below `root`.

    Parts that do not exist are appended as they are (after normalising), so the
    result can be created. With `follow_last` False the last part is not followed
    if it is a symlink: the way to remove or replace it.

    Raises:
        LayerInvalid: more than 255 symlinks on the way.
    """
    base = os.fspath(root)
    todo = [part for part in str(path).split("/") if part and part != "."]
    todo.reverse()
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        here = "/".join((base, *done, part))
        try:
            mode = os.lstat(here).st_mode
        except (FileNotFoundError, NotADirectoryError):
            done.append(part)
            continue
        if not stat.S_ISLNK(mode) or (not todo and not follow_last):
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise LayerInvalid(f"{path}: too many levels of symbolic links")
        target = os.readlink(here)
        if target.startswith("/"):
            done.clear()
        todo.extend(reversed([p for p in target.split("/") if p and p != "."]))
    return "/".join((base, *done))


def is_below(path: str, parent: str) -> bool:
    """Whether the cleaned path `path` is `parent` or lies below it."""
    return path == parent or parent == "/" or path.startswith(parent + "/")
