"""A user namespace with a table of binary formats of its own, kept alive by two descriptors.

No process is kept for it: one descriptor of the namespace and one of the
table's directory keep both exactly as long as this process lives.

Flags of a registration: F opens qemu now, so that it need not be in the image;
P keeps argv[0], without which busybox takes itself for another applet; OC give
setuid programs their rights.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from knarr.errors import Unsupported
from knarr.record import record
from knarr.runtime import binaryformat
from knarr.runtime.binaryformat import Format

_CHILD = Path(__file__).with_name("newtable.py")
_FLAGS = "POCF"


@record
class Emulation:
    """How a foreign step runs: with the host's handler, or in `user_namespace` (a path) with its identity maps."""

    user_namespace: str = ""
    uid_map: tuple[tuple[int, int], ...] = ()  # (first id, count)
    gid_map: tuple[tuple[int, int], ...] = ()


class PrivateTable:
    """A user namespace and its table of binary formats, held by descriptors."""

    def __init__(self, namespace: int, directory: int, uid_map: str, gid_map: str) -> None:
        self._namespace = namespace
        self._directory = directory
        self._registered: set[str] = set()
        path = f"/proc/{os.getpid()}/fd/{namespace}"
        self.emulation = Emulation(path, _ranges(uid_map), _ranges(gid_map))

    @classmethod
    def make(cls, directory: Path) -> PrivateTable:
        """Start a process that makes both, take hold of them, and let it go."""
        os.makedirs(directory, mode=0o711, exist_ok=True)
        uid_map, gid_map = _identity("/proc/self/uid_map"), _identity("/proc/self/gid_map")
        child = _Child.start(os.fspath(directory))
        try:
            child.expect("namespace")
            _write(f"/proc/{child.pid}/gid_map", gid_map)
            _write(f"/proc/{child.pid}/uid_map", uid_map)
            child.tell("mapped")
            child.expect("mounted")
            namespace = os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            try:
                mounted = f"/proc/{child.pid}/root{os.path.abspath(directory)}"
                table = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except BaseException:
                os.close(namespace)
                raise
        except OSError as error:
            raise _unavailable(error.strerror or str(error)) from error
        finally:
            child.end()
        return cls(namespace, table, uid_map, gid_map)

    def register(self, wanted: Format, qemu: str) -> None:
        if wanted.qemu in self._registered:
            return
        line = binaryformat.registration(f"knarr-{wanted.qemu}", wanted, qemu, _FLAGS)
        try:
            entry = os.open("register", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._directory)
            try:
                os.write(entry, line)
            finally:
                os.close(entry)
        except OSError as error:
            raise Unsupported(f"{qemu} cannot be registered as an emulator: {error.strerror}") from error
        self._registered.add(wanted.qemu)

    def close(self) -> None:
        os.close(self._directory)
        os.close(self._namespace)


class _Child:
    """The process that runs newtable.py: one word per line each way."""

    def __init__(self, pid: int, to: int, back: int) -> None:
        self.pid, self._to, self._back = pid, to, back

    @classmethod
    def start(cls, directory: str) -> _Child:
        child_in, to = os.pipe()
        back, child_out = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, child_in, 0), (os.POSIX_SPAWN_DUP2, child_out, 1)]
        argv = [sys.executable, "-I", "-S", os.fspath(_CHILD), directory]
        try:
            pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions)
        except BaseException:
            os.close(to)
            os.close(back)
            raise
        finally:
            os.close(child_in)
            os.close(child_out)
        return cls(pid, to, back)

    def expect(self, word: str) -> None:
        said = os.read(self._back, 4096).decode(errors="replace").strip()
        if said != word:
            raise _unavailable(said or "the process that makes it ended early")

    def tell(self, word: str) -> None:
        os.write(self._to, word.encode() + b"\n")

    def end(self) -> None:
        os.close(self._to)
        os.close(self._back)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _unavailable(why: str) -> Unsupported:
    release = os.uname().release
    old = tuple(int(part) for part in release.split(".")[:2] if part.isdigit()) < (6, 7)
    if old:
        hint = f"a private table of binary formats needs Linux 6.7 (this is {release}); register qemu on the host"
    else:
        hint = "check that user namespaces are allowed (sysctl user.max_user_namespaces) and binfmt_misc is available"
    return Unsupported(f"a namespace for emulated platforms cannot be made: {why}", hint=hint)


def _identity(path: str) -> str:
    """The map of a child namespace in which every id of ours stays what it is."""
    lines = []
    for line in Path(path).read_text(encoding="ascii").splitlines():
        first, _, count = line.split()
        lines.append(f"{first} {first} {count}\n")
    return "".join(lines)


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    lines = (line.split() for line in text.splitlines())
    return tuple((int(first), int(count)) for first, _, count in lines)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())  # the kernel takes a map only in one write
    finally:
        os.close(descriptor)
