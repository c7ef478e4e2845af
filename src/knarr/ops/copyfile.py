"""Copy one file: its bytes, cloned by the kernel where it can, and its extended attributes."""

from __future__ import annotations

import contextlib
import errno
import os

_SMALL = 1 << 18  # a file read and written in one go; larger ones go through copy_file_range


def copy_file(source: str, target: str, size: int) -> None:
    """The bytes of a regular file to a new file; cloned or copied in the kernel when large."""
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if size <= _SMALL:
                while data := os.read(reader, _SMALL + 1):
                    os.write(writer, data)
            else:
                _copy_large(reader, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_large(reader: int, writer: int) -> None:
    try:
        while os.copy_file_range(reader, writer, 1 << 30):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        while data := os.read(reader, 1 << 20):
            view = memoryview(data)
            while view:
                view = view[os.write(writer, view) :]


def copy_xattrs(source: str, target: str) -> None:
    """Extended attributes, but overlayfs's own; what the target's file system refuses is passed over."""
    try:
        names = os.listxattr(source, follow_symlinks=False)
    except OSError:
        return
    for name in names:
        if not name.startswith("trusted.overlay."):
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
