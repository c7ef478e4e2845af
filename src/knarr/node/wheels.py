"""knarr itself for another platform and Python: its own files, and wheels of what it needs, by pip.

pip asks the index that this user has configured. A second build asks nobody: which
wheels it were, with their checksums, is remembered in the cache.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from knarr.errors import KnarrError, Unsupported
from knarr.node.cache import Cache, digest_of
from knarr.record import record

# By Go's names of architectures; a wheel for an older glibc does as well.
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}
_GLIBC = (41, 39, 36, 35, 34, 31, 28, 27, 26, 24, 17)  # 2.41 is trixie's
_PIP_S = 3600


@record
class Wheel:
    """A wheel in the cache."""

    file: str
    sha256: str


def package_directory() -> Path:
    """Where the knarr that runs lies."""
    return Path(__file__).resolve().parents[1]


def requirements() -> tuple[str, ...]:
    """What the knarr that runs needs: as its checkout says, or as it was installed."""
    project = package_directory().parents[1] / "pyproject.toml"
    if project.is_file():
        return tuple(tomllib.loads(project.read_text())["project"]["dependencies"])
    return tuple(each for each in importlib.metadata.requires("knarr") or () if "extra ==" not in each)


def fetch(cache: Cache, arch: str, python: str, wanted: Sequence[str]) -> tuple[Wheel, ...]:
    """The wheels for `wanted` on `arch`, put into the cache.

    Raises:
        KnarrError: pip cannot have one.
        Unsupported: no pip, or no such architecture.
    """
    with cache.draft(f"libraries for {arch}") as place:
        _pip("download", f"--dest={place}", *tags(arch, python), *wanted, what=f"knarr's libraries for linux/{arch}")
        found = []
        for file in sorted(place.iterdir()):
            with open(file, "rb") as stream:
                wheel = Wheel(file.name, digest_of(stream))
            if not cache.has(wheel.sha256):
                cache.take(file, wheel.sha256, file.name)
            found.append(wheel)
        return tuple(found)


def unpack(target: Path, files: Sequence[Path], arch: str, python: str) -> None:
    """Unpack wheels as pip does, for a Python and a platform that need not be this one's.

    Raises:
        KnarrError: pip cannot.
    """
    words = [f"--target={target}", "--no-deps", "--no-index", "--no-compile", "--no-cache-dir"]
    _pip("install", *words, *tags(arch, python), *map(str, files), what=f"knarr's libraries for linux/{arch}")


def tags(arch: str, python: str) -> list[str]:
    """pip's flags for wheels that run there.

    Raises:
        Unsupported: there is no such platform.
    """
    machine = _MACHINES.get(arch)
    if machine is None:
        raise Unsupported(f"knarr has no libraries for linux/{arch}", hint=f"there are {', '.join(_MACHINES)}")
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in _GLIBC]
    abis = [f"--abi=cp{python.replace('.', '')}", "--abi=abi3", "--abi=none"]
    return ["--only-binary=:all:", *platforms, f"--python-version={python}", "--implementation=cp", *abis]


def _pip(*words: str, what: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PIP_S)
    if "No module named pip" in done.stderr:
        raise Unsupported("knarr's libraries come by pip, which its Python does not have", hint="python -m ensurepip")
    if done.returncode:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise KnarrError(
            f"{what}: pip: {(said or ['it failed'])[-1]}", hint="pip's configuration says which index it asks"
        )
