"""A program out of a newer Debian suite than the machine's own, from the same mirror; nothing is installed.

The mirror's address is the one of the machine's own apt sources. The program runs
where it is unpacked: only one that is linked statically, or needs no more than the
C library, is of use.

    python tools/newer_package.py DIRECTORY docker-buildx
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUITE = "trixie"
PROGRAMS = {"docker-buildx": "usr/libexec/docker/cli-plugins/docker-buildx"}
_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))


def program(cache: Path, package: str) -> Path:
    """The program of `package`, unpacked below `cache` unless it is there. Not for two processes at once."""
    unpacked = cache / package
    found = unpacked / PROGRAMS[package]
    if not found.exists():
        shutil.rmtree(unpacked, ignore_errors=True)
        fetched = _fetched(cache / "apt", package)
        subprocess.run(["dpkg-deb", "-x", str(fetched), str(unpacked)], check=True)
    return found


def _fetched(state: Path, package: str) -> Path:
    for directory in ("lists/partial", "cache/archives/partial", "etc/parts", "download"):
        (state / directory).mkdir(parents=True, exist_ok=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (state / "etc/sources.list").write_text(f"deb [signed-by={keyring}] {mirror()} {SUITE} main\n")
    options = {
        "Dir::Etc::SourceList": state / "etc/sources.list",
        "Dir::Etc::SourceParts": state / "etc/parts",
        "Dir::State::Lists": state / "lists",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",
    }
    words = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*words, "update"], check=True)
    subprocess.run([*words, "download", package], cwd=state / "download", check=True)
    return next((state / "download").glob(f"{package}_*.deb"))


def mirror() -> str:
    """The address of the machine's own mirror of Debian."""
    for text in _texts():
        for address in re.findall(r"^(?:deb(?: \[[^]]*\])?|URIs:) +(\S+)", text, re.MULTILINE):
            if address.rstrip("/").endswith("/debian"):
                return str(address)
    raise SystemExit("the apt sources of this machine name no mirror of Debian")


def _texts() -> Iterator[str]:
    for place in _SOURCES:
        for path in sorted(place.iterdir()) if place.is_dir() else [place]:
            if path.suffix in (".list", ".sources") and path.is_file():
                yield path.read_text()


if __name__ == "__main__":
    print(program(Path(sys.argv[1]), sys.argv[2]))
