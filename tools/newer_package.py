"""A program out of a newer Debian suite than the machine's own, from the same mirror; nothing is installed.

The mirror's address is the one of the machine's own apt sources. The program runs
where it is unpacked; one that needs more than this machine has gets its libraries
unpacked beside it, and a script that starts it with them.

    python tools/newer_package.py DIRECTORY docker-buildx
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from knarr.node.debian import mirror

SUITE = "trixie"
PROGRAMS = {
    "docker-buildx": "usr/libexec/docker/cli-plugins/docker-buildx",
    "oras": "usr/bin/oras",
    "cosign": "usr/bin/cosign",
    "skopeo": "usr/bin/skopeo",
}
_LIBRARIES = {"skopeo": ("libc6", "libgpgme11t64", "libassuan9", "libgpg-error0", "libsqlite3-0")}


def program(cache: Path, package: str) -> Path:
    """The program of `package`, unpacked below `cache` unless it is there. Not for two processes at once."""
    unpacked, libraries = cache / package, _LIBRARIES.get(package, ())
    found = unpacked / (f"{package}-with-libraries" if libraries else PROGRAMS[package])
    if not found.exists():
        shutil.rmtree(unpacked, ignore_errors=True)
        for fetched in _fetched(cache / "apt", package, *libraries):
            subprocess.run(["dpkg-deb", "-x", str(fetched), str(unpacked)], check=True)
        if libraries:
            _write_script(unpacked, unpacked / PROGRAMS[package], found)
    return found


def _write_script(unpacked: Path, program: Path, script: Path) -> None:
    """A script that starts `program` with the loader and the libraries beside it."""
    loader = next(unpacked.glob("usr/lib/*-linux-gnu*/ld-linux-*.so.*"))
    draft = script.with_suffix(".draft")
    draft.write_text(f'#!/bin/sh\nexec {loader} --library-path {loader.parent} {program} "$@"\n')
    draft.chmod(0o755)
    draft.rename(script)


def _fetched(state: Path, *packages: str) -> list[Path]:
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
    subprocess.run([*words, "download", *packages], cwd=state / "download", check=True)
    return [next((state / "download").glob(f"{package}_*.deb")) for package in packages]


if __name__ == "__main__":
    print(program(Path(sys.argv[1]), sys.argv[2]))
