"""What the demo takes from this machine: its apt sources, and a name that only the demo resolves."""

from __future__ import annotations

import subprocess
from pathlib import Path

_OPTIONS = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-Valid-Until", "Acquire::Check-Date")


def resolve_privately(host: str, file: Path) -> None:
    """Let `host` lead to loopback in this process's own mount namespace (see demo/run)."""
    file.write_text(Path("/etc/hosts").read_text() + f"127.0.0.1 {host}\n")
    subprocess.run(["mount", "--bind", str(file), "/etc/hosts"], check=True)


def debian_tarball(architecture: str, directory: Path) -> Path:
    """A tar of Debian's essential packages and apt, unpacked but not configured, with the packages inside.

    The suite and the mirrors are those of this machine's apt.
    """
    tarball = directory / f"debian-{architecture}.tar"
    if tarball.exists():
        print(f"{tarball} is there from last time")
        return tarball
    suite, sources = _sources()
    fresh = directory / "unfinished.tar"
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--architectures={architecture}"),
            *("--include=?essential", "--include=apt", "--skip=cleanup/apt", "--skip=check/qemu"),
            *("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--format=tar"),
            *(f"--aptopt={option}" for option in _apt_options()),
            *(suite, str(fresh), "-"),
        ],
        input=sources,
        text=True,
        check=True,
    )
    fresh.rename(tarball)
    print(f"{tarball}: {tarball.stat().st_size / 1e6:.0f} MB")
    return tarball


def _sources() -> tuple[str, str]:
    """(suite, lines of sources.list) from what this machine's apt has indexes of."""
    codename = next(
        line.partition("=")[2].strip('"')
        for line in Path("/etc/os-release").read_text().splitlines()
        if line.startswith("VERSION_CODENAME=")
    )
    command = ["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)|$(ORIGIN)"]
    listed = subprocess.run([*command, "Created-By: Packages"], capture_output=True, text=True, check=True).stdout
    lines = {line.partition("|")[0] for line in listed.splitlines() if line.endswith(("|Debian", "|Ubuntu"))}
    wanted = sorted(line for line in lines if line.split()[2].startswith(codename))
    if not wanted:
        raise SystemExit("demo: apt has no package lists of this release: run apt-get update")
    return codename, "\n".join(wanted) + "\n"


def _apt_options() -> list[str]:
    """How this machine's apt reaches its mirror, in the words of apt.conf."""
    dumped = subprocess.run(["apt-config", "dump", *_OPTIONS], capture_output=True, text=True, check=True).stdout
    return [line.rstrip(";") for line in dumped.splitlines() if line.partition('"')[2] not in ("", '";')]
