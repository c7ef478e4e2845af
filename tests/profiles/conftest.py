"""Places for all profiles, and a registry with what their Dockerfiles begin with."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import debian_bases  # tools/
from knarr.runtime import cgroups
from knarr.snapshot.namespace import private_mounts
from tests.profiles import corpus, places


@pytest.fixture(scope="session", autouse=True)
def own_mounts() -> bool:
    """What these tests mount, also by crun on hybrid cgroups, is nobody else's."""
    isolated = private_mounts()
    if isolated and cgroups.is_hybrid():
        cgroups.hide_hybrid()
    return isolated


@pytest.fixture(scope="session")
def everyones_python() -> places.Python:
    found = places.python_for_all()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that every user may enter (pytest's own are root's)."""
    place = Path(tempfile.mkdtemp(prefix="knarr-profiles-", dir="/var/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def debian(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's essential packages as `docker.io/library/debian` in the registry; gives a directory with packages."""
    cache = tmp_path_factory.getbasetemp().parent.parent / "knarr-test-bases"
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        layout = debian_bases.debian(cache)
        debs = debian_bases.packages(cache / "debs-of-profiles", "hello", "libutempter0")
    subprocess.run(
        [
            *("skopeo", "--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false"),
            *(f"oci:{layout}:latest", f"docker://{bases.address}/library/debian:latest"),
        ],
        check=True,
    )
    return debs


@pytest.fixture(scope="session")
def contexts(shared: Path) -> Path:
    """The corpus without packages, readable for everybody."""
    return _written(shared / "corpus", None)


@pytest.fixture(scope="session")
def package_contexts(shared: Path, debian: Path) -> Path:
    """The corpus with packages."""
    return _written(shared / "packages", debian)


def _written(place: Path, debs: Path | None) -> Path:
    place.mkdir()
    corpus.write(place, debs)
    (place / "token").write_text("secret")
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    return place


@pytest.fixture
def place(shared: Path, bases: Any, everyones_python: places.Python) -> Callable[..., places.Place]:
    """Make a place of a profile, with a state directory of its own."""
    hosts = shared / "certs.d"
    if not hosts.exists():
        shutil.copytree(bases.hosts_dir, hosts)
        os.chmod(hosts, 0o755)

    def make(profile: str, **fields: Any) -> places.Place:
        home = Path(tempfile.mkdtemp(dir=shared))
        env = {"KNARR_HOSTS_DIR": str(hosts), "SOURCE_DATE_EPOCH": corpus.EPOCH}
        found = places.Place(profile, home, everyones_python, env)
        if profile == "single":
            found.ids = ""
        elif profile in ("root", "container"):
            found.uid = 0
        if profile == "container":
            found.capabilities = places.DOCKER
        for name, value in fields.items():
            setattr(found, name, value)
        os.chown(home, found.uid, found.uid)
        return found

    return make
