"""The system calls of Linux that Python 3.11 does not offer: mounts and namespaces.

Each is a thin call that raises `OSError` with the path it was about; what to
mount, and what a failure means, is decided by the caller. ctypes is loaded at
the first call (2 ms), so importing this module is free.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000

MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

# The mount calls of Linux 5.2 have one number on every architecture but alpha.
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_OPENAT2 = 437

_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_CLOEXEC = 1  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD = -100

_SYNC_FILE_RANGE_WRITE = 2

_PER_LINUX32 = 8
_PR_SET_NO_NEW_PRIVS = 38
_PERSONALITY_ASK = 0xFFFFFFFF


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2). `data` is cut at one page (4096 bytes) by the kernel: `mount_fd` has no such limit."""
    _check(
        _libc().mount(_b(source), _b(target), _b(kind), _unsigned(flags), _b(data) if data else None),
        target,
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc().umount2(_b(target), flags), target)


def unshare(flags: int) -> None:
    """unshare(2), for the calling thread."""
    _check(_libc().unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """setns(2), for the calling thread; a user namespace only for a process of one thread."""
    _check(_libc().setns(descriptor, kind), "setns")


_isolated = False


def isolate_mounts() -> None:
    """Give this thread, and the threads and processes it starts, a mount namespace that gets but never gives mounts."""
    global _isolated
    unshare(CLONE_NEWNS)
    mount("none", "/", "", MS_REC | MS_SLAVE)
    _isolated = True


def mounts_isolated() -> bool:
    """Whether `isolate_mounts` was called in this process."""
    return _isolated


_may_mount = True


def forgo_mounts() -> None:
    """Note that this process may mount nothing, not even in a namespace of its own."""
    global _may_mount
    _may_mount = False


def may_mount() -> bool:
    """False after `forgo_mounts`: trees are then used where they lie."""
    return _may_mount


_is_root_by_namespace = False


def enter_user_namespace() -> None:
    """Give this process, which must have one thread, a user namespace of its own; somebody outside writes its ids."""
    global _is_root_by_namespace
    unshare(CLONE_NEWUSER)
    _is_root_by_namespace = True


def is_root_by_namespace() -> bool:
    """Whether `enter_user_namespace` was called: root over files and mounts, not over networks and control groups."""
    return _is_root_by_namespace


def fsopen(kind: str) -> int:
    """A descriptor to configure a new file system of type `kind` with; the caller closes it."""
    return _check(_libc().syscall(_SYS_FSOPEN, _b(kind), _CLOEXEC), kind)


def fsconfig(fs: int, key: str, value: str | None = None) -> None:
    """Set an option of the file system under `fs`: a text, or a flag when `value` is None."""
    command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
    text = None if value is None else _b(value)
    _check(_libc().syscall(_SYS_FSCONFIG, fs, command, _b(key), text, 0), key if value is None else value)


def fsmount(fs: int, target: str, attributes: int = 0) -> None:
    """Create the configured file system and attach it at `target`."""
    libc = _libc()
    _check(libc.syscall(_SYS_FSCONFIG, fs, _FSCONFIG_CMD_CREATE, None, None, 0), target)
    tree = _check(libc.syscall(_SYS_FSMOUNT, fs, _CLOEXEC, attributes), target)
    try:
        _check(libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, _b(target), _MOVE_MOUNT_F_EMPTY_PATH), target)
    finally:
        os.close(tree)


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open `path` as if the directory open at `root` were `/`: no symlink and no `..` leads out. The caller closes it.

    Linux 5.6, openat2(2): RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS.
    """
    import ctypes

    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, 0, 0x10 | 0x02)
    return _check(_libc().syscall(_SYS_OPENAT2, root, _b(path), how, ctypes.c_size_t(ctypes.sizeof(how))), path)


def notify_of(arch: int, numbers: Sequence[int]) -> int:
    """Send these system calls of this thread, and of what it starts, to whoever has the descriptor that is returned.

    `arch` is the audit number of the architecture: calls of others are not sent. It cannot be undone, and
    takes away what setuid programs give (no_new_privs).
    """
    import ctypes
    import struct

    allow, notify = 0x7FFF0000, 0x7FC00000  # SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF
    lines = [(0x20, 0, 0, 4), (0x15, 1, 0, arch), (0x06, 0, 0, allow), (0x20, 0, 0, 0)]
    left = len(numbers)
    for number in numbers:
        lines.append((0x15, left, 0, number))
        left -= 1
    lines += [(0x06, 0, 0, allow), (0x06, 0, 0, notify)]
    code = b"".join(struct.pack("=HBBI", *line) for line in lines)
    program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(lines), 0), 16)
    buffer = ctypes.create_string_buffer(code, len(code))
    struct.pack_into("=Q", program, 8, ctypes.addressof(buffer))
    libc = _libc()
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    number = 317 if os.uname().machine == "x86_64" else 277
    return _check(libc.syscall(number, 1, 8, program), "seccomp")


def machine_of_compat() -> str:
    """What uname(2) calls this machine to a 32-bit program; empty when the processor runs none."""
    libc = _libc()
    before = libc.personality(_unsigned(_PERSONALITY_ASK))
    if libc.personality(_unsigned(_PER_LINUX32)) < 0:
        return ""
    try:
        return os.uname().machine
    finally:
        libc.personality(_unsigned(before))


def syncfs(path: str) -> None:
    """Write all dirty data of the file system that holds `path`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(_libc().syncfs(descriptor), path)
    finally:
        os.close(descriptor)


def begin_to_write(descriptor: int, start: int, length: int) -> None:
    """Have the kernel write that part of a file to the disk from now on, so that a later fsync finds little to do.

    Only a hint: where the file system does not know it, nothing happens. See sync_file_range(2).
    """
    import ctypes

    _libc().sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)


@lru_cache(maxsize=1)
def _libc() -> Any:  # a ctypes library: its functions have no types
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def _unsigned(flags: int) -> Any:
    import ctypes

    return ctypes.c_ulong(flags)


def _b(text: str) -> bytes:
    return os.fsencode(text)


def _check(result: int, about: str) -> int:
    if result < 0:
        import ctypes

        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), about)
    return result
