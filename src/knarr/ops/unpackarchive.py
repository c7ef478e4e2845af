"""ADD of a local archive: recognised by its content, unpacked at the destination.

Whatever its name, a file is an archive when, decompressed, it begins with a tar
header (gzip, bzip2, xz, zstd or plain). Its entries keep their owners unless
--chown is given; the destination directory is made plainly, whatever the archive
says about its root (build.md §4).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from knarr.errors import ContentError, LayerInvalid
from knarr.layer.apply import unpack_archive
from knarr.layer.decompress import open_compressed
from knarr.layer.tar_read import Reader
from knarr.ops.copytree import CopyOptions, Tree, make_parents
from knarr.paths import inside


def unpack(tree: Tree, source: str, root: str, target: str, options: CopyOptions, *, check: Callable[[], None]) -> bool:
    """Unpack the file `source` of `tree` below `target`, if it is an archive; tells whether it was one.

    Raises:
        LayerInvalid: an entry of the archive leads outside, or it is malformed behind its first header.
    """
    path = inside(tree.root, source)
    if not _is_archive(path):
        return False
    where = inside(root, target.rstrip("/") or "/")
    make_parents(where, 0o755, options.owner, options.time_ns)
    with open(path, "rb") as file:
        try:
            unpack_archive(open_compressed(file), Path(where), owner=options.owner, check=check)
        except LayerInvalid as error:
            raise error.with_context(archive=source.lstrip("/")) from None
    return True


def _is_archive(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return Reader(open_compressed(file)).next() is not None
    except (OSError, ContentError):
        return False
