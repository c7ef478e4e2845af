"""Foreign platforms: qemu registered for a user namespace of our own, the host untouched.

Since Linux 6.7 the table of binary formats (binfmt_misc) belongs to a user
namespace. An `Emulator` holds one namespace with the identity map, and in it a
table with `qemu-<arch>-static`; the OCI runtime joins it for foreign steps
only (see `privatetable`).

Order of choice: the platform runs here anyway; the host has a handler; the
namespace; an error that says what to install.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

from knarr.errors import Unsupported
from knarr.runtime import binaryformat
from knarr.runtime.binaryformat import Format
from knarr.runtime.privatetable import Emulation, PrivateTable
from knarr.spec.platform import Platform, host_platform

_HOST_TABLE = Path("/proc/sys/fs/binfmt_misc")
_PLACES = ("/usr/bin", "/usr/local/bin", "/bin")


class Emulator:
    """Knows how each platform runs here. Safe from several threads."""

    def __init__(self, directory: Path, *, host_table: Path = _HOST_TABLE, places: Iterable[str] = _PLACES) -> None:
        """`directory` is where the private table is mounted (in a mount namespace nobody else sees)."""
        self._directory = directory
        self._host_table = host_table
        self._places = tuple(places)
        self._lock = threading.Lock()
        self._table: PrivateTable | None = None
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

    def available(self) -> tuple[Platform, ...]:
        """The platforms whose steps can run here, as far as can be told without registering anything."""
        return tuple(platform for name in binaryformat.FORMATS if self._may_run(platform := Platform("linux", name)))

    def _may_run(self, platform: Platform) -> bool:
        wanted = binaryformat.FORMATS[platform.architecture]
        if runs_natively(platform.architecture) or _host_has(self._host_table, wanted):
            return True
        try:
            self._qemu(platform, wanted)
        except Unsupported:
            return False
        return True

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
            raise Unsupported(
                f"steps for {platform} cannot run here: there is no emulator for it",
                hint="run them on a machine of that platform: COPY and ADD work for any platform, RUN does not",
            )
        if _host_has(self._host_table, wanted):
            return Emulation()
        qemu = self._qemu(platform, wanted)
        if self._table is None:
            self._table = PrivateTable.make(self._directory)
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


def host_runs(platform: Platform | None) -> bool:
    """Whether steps for `platform` run here without our help: by the processor, or a handler of the machine's."""
    if platform is None or runs_natively(platform.architecture):
        return True
    wanted = binaryformat.FORMATS.get(platform.architecture)
    return wanted is not None and _host_has(_HOST_TABLE, wanted)


def emulator_of(platform: Platform | None) -> str:
    """The path of the qemu that runs programs of `platform`.

    Raises:
        Unsupported: there is none.
    """
    wanted = binaryformat.FORMATS.get(platform.architecture) if platform is not None else None
    if platform is None or wanted is None:
        raise Unsupported(f"steps for {platform} cannot run here: there is no emulator for it")
    return Emulator(Path("/"))._qemu(platform, wanted)


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
