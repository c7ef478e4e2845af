"""Foreign platforms: qemu registered for a user namespace of our own, the host untouched.

Since Linux 6.7 the table of binary formats (binfmt_misc) belongs to a user
namespace. An `Emulator` holds one namespace with the identity map, and in it a
table with `qemu-<arch>-static`; the OCI runtime joins it for foreign steps
only. No process is kept for that: two descriptors, of the namespace and of the
table's directory, keep both alive exactly as long as this process.

Flags of a registration: F opens qemu now, so that it need not be in the image;
P keeps argv[0], without which busybox takes itself for another applet; OC give
setuid programs their rights.

Order of choice: the platform runs here anyway; the host has a handler; the
namespace; an error that says what to install.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from knarr.errors import Unsupported
from knarr.record import record
from knarr.runtime import binaryformat
from knarr.runtime.binaryformat import Format
from knarr.spec.platform import Platform, host_platform

_HOST_TABLE = Path("/proc/sys/fs/binfmt_misc")
_CHILD = Path(__file__).with_name("newtable.py")
_PLACES = ("/usr/bin", "/usr/local/bin", "/bin")
_FLAGS = "POCF"


@record
class Emulation:
    """How a foreign step runs: with the host's handler, or in `user_namespace` (a path) with its identity maps."""

    user_namespace: str = ""
    uid_map: tuple[tuple[int, int], ...] = ()  # (first id, count)
    gid_map: tuple[tuple[int, int], ...] = ()


class Emulator:
    """Knows how each platform runs here. Safe from several threads."""

    def __init__(self, directory: Path, *, host_table: Path = _HOST_TABLE, places: Iterable[str] = _PLACES) -> None:
        """`directory` is where the private table is mounted (in a mount namespace nobody else sees)."""
        self._directory = directory
        self._host_table = host_table
        self._places = tuple(places)
        self._lock = threading.Lock()
        self._table: _Table | None = None
        self._known: dict[str, Emulation | None] = {}

    def preflight(self, platforms: Iterable[Platform]) -> None:
        """Find out before a build starts whether all its platforms can run.

        Raises:
            Unsupported: one cannot; the hint says what to install.
        """
        for platform in platforms:
            self.emulation(platform)

    def emulation(self, platform: Platform | None) -> Emulation | None:
        """How `platform` runs here; None: without help.

        Raises:
            Unsupported: it cannot.
        """
        if platform is None:
            return None
        with self._lock:
            key = platform.architecture
            if key not in self._known:
                self._known[key] = self._find(platform)
            return self._known[key]

    def close(self) -> None:
        """Let the namespace go. Steps under way keep it alive."""
        with self._lock:
            table, self._table = self._table, None
            self._known.clear()
        if table is not None:
            table.close()

    def _find(self, platform: Platform) -> Emulation | None:
        if platform.os != "linux":
            raise Unsupported(f"steps for {platform} cannot run on Linux")
        if runs_natively(platform.architecture):
            return None
        wanted = binaryformat.FORMATS.get(platform.architecture)
        if wanted is None:
            raise Unsupported(f"steps for {platform} cannot run here: there is no emulator for it")
        if _host_has(self._host_table, wanted):
            return Emulation()
        qemu = self._qemu(platform, wanted)
        if self._table is None:
            self._table = _Table.make(self._directory)
        self._table.register(wanted, qemu)
        return self._table.emulation

    def _qemu(self, platform: Platform, wanted: Format) -> str:
        """The emulator: a static program, since it will run on the image's root."""
        names = (f"qemu-{wanted.qemu}-static", f"qemu-{wanted.qemu}")
        places = dict.fromkeys((*os.environ.get("PATH", "").split(":"), *self._places))
        found = [f"{place}/{name}" for name in names for place in places if place and os.path.isfile(f"{place}/{name}")]
        for path in found:
            if binaryformat.is_static(path):
                return path
        fact = f"{found[0]} is not linked statically" if found else f"{names[0]} is not installed"
        raise Unsupported(
            f"steps for {platform} need an emulator on this machine ({host_platform()}): {fact}",
            hint="install it (Debian, Ubuntu: apt-get install qemu-user-static); binfmt-support is not needed",
        )


def runs_natively(architecture: str) -> bool:
    """Whether this machine's processor runs programs of the architecture itself."""
    here = host_platform().architecture
    if architecture == here:
        return True
    if (here, architecture) == ("arm64", "arm"):
        return "v7" in _compatible_isa() or "v8l" in _compatible_isa()
    return (here, architecture) in (("amd64", "386"), ("s390x", "s390"), ("mips64le", "mipsle"))


def _compatible_isa() -> str:
    """What an arm64 kernel says of 32-bit support; many server processors have none."""
    from knarr import linux

    return linux.machine_of_compat()


def _host_has(table: Path, wanted: Format) -> bool:
    """Whether the host's table has a handler that works inside any root (flag F)."""
    try:
        names = os.listdir(table)
    except OSError:
        return False
    for name in names:
        if name in ("register", "status"):
            continue
        try:
            text = (table / name).read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        if binaryformat.handles(text, wanted):
            return True
    return False


class _Table:
    """A user namespace and its table of binary formats, held by descriptors."""

    def __init__(self, namespace: int, directory: int, uid_map: str, gid_map: str) -> None:
        self._namespace = namespace
        self._directory = directory
        self._registered: set[str] = set()
        path = f"/proc/{os.getpid()}/fd/{namespace}"
        self.emulation = Emulation(path, _ranges(uid_map), _ranges(gid_map))

    @classmethod
    def make(cls, directory: Path) -> _Table:
        """Start a process that makes both, take hold of them, and let it go."""
        os.makedirs(directory, mode=0o711, exist_ok=True)
        maps = [_identity(f"/proc/self/{kind}_map") for kind in ("uid", "gid")]
        child = _Child.start(os.fspath(directory))
        try:
            child.expect("namespace")
            for kind, lines in zip(("gid", "uid"), reversed(maps), strict=True):
                _write(f"/proc/{child.pid}/{kind}_map", lines)
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
        return cls(namespace, table, *maps)

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
