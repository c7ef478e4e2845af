"""Debian packages for any architecture, by this machine's apt: its mirror, its proxies, its keys.

apt works on a state of its own in the cache directory, so nothing of the machine
changes, and resolves as for an empty system: what comes out is all that a root
directory needs. It checks the signature of the suite's index; the index has the
checksum of each package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from knarr.errors import ContentError, KnarrError, Unsupported, UsageError
from knarr.node.cache import Cache
from knarr.node.components import Component, ComponentList
from knarr.record import record

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")
_APT_S = 3600  # for all packages on a slow line


@record
class Package:
    """One package: `file` as apt calls it, NAME_VERSION_ARCH.deb."""

    file: str
    sha256: str
    size: int  # bytes

    @property
    def name(self) -> str:
        return self.file.partition("_")[0]

    @property
    def version(self) -> str:
        return unquote(self.file.split("_")[1])


def mirror(sources: Sequence[Path] = _SOURCES) -> str:
    """The address of the mirror of Debian that this machine's apt is told of.

    Raises:
        UsageError: there is none.
    """
    for text in _texts(sources):
        for address in re.findall(r"^(?:deb(?: \[[^]]*\])?|URIs:) +(\S+)", text, re.MULTILINE):
            if address.rstrip("/").endswith("/debian"):
                return str(address)
    raise UsageError(
        "the apt sources of this machine name no mirror of Debian",
        hint="--mirror URL names one; on a machine without apt, build the node image in a container of Debian",
    )


def _texts(sources: Sequence[Path]) -> Iterator[str]:
    for place in sources:
        for path in sorted(place.iterdir()) if place.is_dir() else [place]:
            if path.suffix in (".list", ".sources") and path.is_file():
                yield path.read_text(errors="replace")


class Apt:
    """apt on a state of its own, for one architecture and suite."""

    def __init__(self, cache: Cache, address: str, suite: str, arch: str, *, keyring: str = _KEYRING) -> None:
        """Raises Unsupported: there is no apt, or no keyring of Debian's."""
        if shutil.which("apt-get") is None:
            raise Unsupported(
                "packages come by apt-get, which this machine does not have",
                hint="build the node image on Debian or Ubuntu, or in a container of theirs",
            )
        if not os.path.exists(keyring):
            raise Unsupported(
                f"{keyring} is missing: Debian's packages could not be checked",
                hint="apt-get install debian-archive-keyring",
            )
        self._cache = cache
        self._suite = suite
        self._arch = arch
        self._state = cache.root / "apt" / f"{suite}-{arch}"
        for name in ("lists/partial", "archives/partial", "parts"):
            (self._state / name).mkdir(parents=True, exist_ok=True)
        (self._state / "status").touch()
        (self._state / "sources.list").write_text(f"deb [signed-by={keyring}] {address} {suite} main\n")

    def resolve(self, listed: ComponentList) -> tuple[Package, ...]:
        """All packages that the list's system and components need, in the order in which they can be unpacked.

        Raises:
            KnarrError: the mirror cannot be reached, or lacks one.
            ContentError: the mirror's has another checksum than the list.
        """
        self._run("update")
        wanted = [*listed.system, *(f"{each.package}={each.version}" for each in listed.packages)]
        try:
            lines = self._run("--print-uris", "install", *wanted).splitlines()
        except _AptFailed as error:
            raise self._explained(error, listed) from error
        found = [Package(m["file"], m["sha256"], int(m["size"])) for line in lines if (m := _URI.match(line))]
        for each in listed.packages:
            self._compare(each, next((package for package in found if package.name == each.package), None))
        return tuple(found)

    def _compare(self, each: Component, found: Package | None) -> None:
        expected = each.sha256.get(self._arch)
        if found is None or (expected and found.sha256 != expected):
            what = f"component {each.name} {each.version} ({self._arch})"
            fact = found.sha256 if found else "nowhere"
            raise ContentError(
                f"{what}: the mirror's sha256 is {fact}, the list says {expected}",
                hint="do not use this mirror: two packages of one name, version and architecture are never different",
            )

    def _explained(self, error: _AptFailed, listed: ComponentList) -> KnarrError:
        """Which component the mirror has another version of."""
        for each in listed.packages:
            if f"'{each.version}' for '{each.package}'" in error.said:
                there = [line.split("|")[1].strip() for line in self._madison(each.package).splitlines()]
                listing = ", ".join(there) or "none"
                return KnarrError(
                    f"component {each.name} {each.version}: the mirror has {listing} ({self._suite}, {self._arch})",
                    hint=f"--component {each.name}={there[0]}" if there else f"--without {each.name}",
                )
        return error

    def fetch(self, listed: ComponentList, packages: Sequence[Package]) -> None:
        """Have all `packages`, which `resolve` gave for `listed`, in the cache.

        Raises:
            KnarrError: one cannot be had; what came is kept.
        """
        if all(self._cache.has(package.sha256) for package in packages):
            return
        archives = self._state / "archives"
        for package in packages:  # apt links nothing: what is here already need not come again
            if self._cache.has(package.sha256) and not (archives / package.file).exists():
                os.link(self._cache.path(package.sha256), archives / package.file)
        wanted = [*listed.system, *(f"{each.package}={each.version}" for each in listed.packages)]
        self._run("--download-only", "install", *wanted)
        with self._cache.draft(f"packages for {self._arch}") as place:
            for package in packages:
                if not self._cache.has(package.sha256):
                    os.replace(archives / package.file, place / package.file)
                    self._cache.take(place / package.file, package.sha256, f"package {package.file}")
        shutil.rmtree(archives, ignore_errors=True)

    def _madison(self, package: str) -> str:
        return self._run("madison", package, program="apt-cache")

    def _run(self, *words: str, program: str = "apt-get") -> str:
        """What apt says on standard output."""
        state = self._state
        options = {
            "APT::Architecture": self._arch,
            "APT::Architectures": self._arch,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::ForceHash": "SHA256",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "true",
            "Dir::Cache": state,
            "Dir::Cache::archives": state / "archives/",
            "Dir::Etc::SourceList": state / "sources.list",
            "Dir::Etc::SourceParts": state / "parts",
            "Dir::State": state,
            "Dir::State::Lists": state / "lists",
            "Dir::State::status": state / "status",
            # An update that did not work must be a failure: the index of yesterday has packages that are gone.
            "APT::Update::Error-Mode": "any",
        }
        quiet = ("-qq", "-y") if program == "apt-get" else ()
        command = [program, *quiet, *(f"-o{name}={value}" for name, value in options.items()), *words]
        env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, timeout=_APT_S
        )
        if done.returncode:
            raise _AptFailed(done.stderr, self._suite, self._arch, self._cache)
        return done.stdout


class _AptFailed(KnarrError):
    def __init__(self, said: str, suite: str, arch: str, cache: Cache) -> None:
        lines = [line.removeprefix("E: ") for line in said.splitlines() if line.startswith("E: ")]
        full = next((line for line in lines if "No space left" in line or "enough free space" in line), "")
        hint = (
            f"--cache DIR on a larger disk than {cache.root}'s"
            if full
            else "try again; --mirror URL names another mirror"
        )
        super().__init__(f"packages of {suite} for {arch}: apt: {full or (lines or ['it failed'])[0]}", hint=hint)
        self.said = said
