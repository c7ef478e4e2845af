"""A process of a step as it is seen from outside: who started it, its memory, and the files it names.

Files are opened with the rights of this process, inside the step's own root. A symlink that is changed
meanwhile leads nowhere else: the kernel resolves the path below that root.

Spec: proc_pid_mem(5), proc_pid_status(5); openat2(2), RESOLVE_IN_ROOT.
"""

from __future__ import annotations

import os
import stat
import struct

from knarr import linux, virtual

AT_FDCWD = -100
_PATH_MAX = 4096


def process_of(thread: int) -> int:
    """The process of a thread."""
    try:
        return int(_status(thread, "Tgid"))
    except OSError:
        return thread


def parent_of(pid: int) -> int | None:
    """Who started the process, or inherited it; None: it has ended."""
    try:
        return int(_status(pid, "PPid"))
    except OSError:
        return None


def umask(pid: int) -> int:
    """What the process takes from the modes of new files."""
    return int(_status(pid, "Umask"), 8)


def text(pid: int, address: int) -> str:
    """The path at `address` of the process."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        first = memory.read(_PATH_MAX - address % _PATH_MAX)
        if b"\0" not in first:
            first += memory.read(_PATH_MAX)
    return os.fsdecode(first.partition(b"\0")[0][:_PATH_MAX])


def write(pid: int, data: bytes, *addresses: int) -> None:
    """Put `data` at each of the addresses of the process."""
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for address in addresses:
            memory.seek(address)
            memory.write(data)


def write_number(pid: int, number: int, *addresses: int) -> None:
    """Put an unsigned int of C at each of the addresses."""
    write(pid, struct.pack("=I", number), *addresses)


def open_file(pid: int, at: int, path: str, flags: int, *, rooted: bool = True) -> int:
    """Open a file as the process would. `rooted`: the path is one of the process's own root; else it is ours."""
    root = os.readlink(f"/proc/{pid}/root") if rooted else "/"
    if not path.startswith("/"):
        base = os.readlink(f"/proc/{pid}/cwd" if at == AT_FDCWD else f"/proc/{pid}/fd/{at}")
        if root != "/" and (base + "/").startswith(root + "/"):  # it has changed its root since it began
            base = base[len(root) :]
        path = f"{base}/{path}"
    if not rooted:
        return os.open(path, flags | os.O_CLOEXEC)
    directory = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return linux.open_in_root(directory, path, flags)
    finally:
        os.close(directory)


class Opened:
    """A file of a step, open for reading; `descriptor` is -1 for what is neither file nor directory.

    `is_kept`: it lies on the file system of the step's root, and not on one that only the step sees.
    """

    def __init__(self, pid: int, at: int, path: int, *, follow: bool, rooted: bool) -> None:
        self.path = text(pid, path) if path else ""
        self.descriptor = -1
        self.is_missing = False
        self.is_kept = True
        nofollow = 0 if follow else os.O_NOFOLLOW
        try:
            if self.path:
                probe = open_file(pid, at, self.path, os.O_PATH | nofollow, rooted=rooted)
            else:
                probe = os.open(f"/proc/{pid}/fd/{at}", os.O_PATH | os.O_CLOEXEC)
                self.path = f"descriptor {at}"
        except OSError:
            self.is_missing = True
            return
        try:
            found = os.fstat(probe)
            self.is_kept = not rooted or found.st_dev == os.stat(f"/proc/{pid}/root").st_dev
            if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
                self.descriptor = _open_for_notes(f"/proc/self/fd/{probe}", found.st_mode)
        finally:
            os.close(probe)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _open_for_notes(path: str, mode: int) -> int:
    """Open a file or directory, also one whose mode locks its owner out; that mode is noted then."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
    if virtual.notes_modes() and mode & wanted != wanted:
        os.chmod(path, stat.S_IMODE(mode) | wanted)
        descriptor = os.open(path, flags)
        virtual.chmod(descriptor, stat.S_IMODE(mode))
        return descriptor
    return os.open(path, flags)


def _status(pid: int, key: str) -> str:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as table:
        return next((line.split()[1] for line in table if line.startswith(key + ":")), "0")
