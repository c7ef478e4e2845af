"""What the kernel writes for stat(2) and statx(2), from Python's result.

Spec: struct stat of x86-64 and of the other 64-bit architectures; statx(2).
"""

from __future__ import annotations

import os
import struct


def stat_bytes(found: os.stat_result) -> bytes:
    """`struct stat` of this machine's architecture."""
    times = [part for ns in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns) for part in divmod(ns, 10**9)]
    if os.uname().machine == "x86_64":
        head = (found.st_dev, found.st_ino, found.st_nlink, found.st_mode, found.st_uid, found.st_gid, found.st_rdev)
        return struct.pack(
            "=QQQIIIxxxxQqqq6q3q", *head, found.st_size, found.st_blksize, found.st_blocks, *times, 0, 0, 0
        )
    head = (found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev)
    return struct.pack("=QQIIIIQQqiiq6qII", *head, 0, found.st_size, found.st_blksize, 0, found.st_blocks, *times, 0, 0)


def statx_bytes(found: os.stat_result) -> bytes:
    """`struct statx`, with the basic fields."""

    def time(ns: int) -> bytes:
        return struct.pack("=qIi", *divmod(ns, 10**9), 0)

    head = struct.pack(
        *("=IIQIIIHxxQQQQ", 0x7FF, found.st_blksize, 0, found.st_nlink, found.st_uid, found.st_gid, found.st_mode),
        *(found.st_ino, found.st_size, found.st_blocks, 0),
    )
    times = time(found.st_atime_ns) + bytes(16) + time(found.st_ctime_ns) + time(found.st_mtime_ns)
    devices = struct.pack(
        *("=IIII", os.major(found.st_rdev), os.minor(found.st_rdev), os.major(found.st_dev), os.minor(found.st_dev)),
    )
    return (head + times + devices).ljust(256, b"\0")
