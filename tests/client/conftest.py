"""Builders to build with: knarr's own daemon, and BuildKit's where `BUILDKIT_HOST` leads to one.

BUILDKIT_HOST=unix:///run/buildkit/buildkitd.sock python -m pytest tests/client
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.conftest import Running, running

THEIRS = os.environ.get("BUILDKIT_HOST", "")


@pytest.fixture(scope="session")
def own_daemon(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("daemon") / "root"
    flags = ("--allow-insecure-entitlement", "network.host")
    with running(root, *flags, environ={"KNARR_HOSTS_DIR": str(bases.hosts_dir)}) as found:
        yield found


@pytest.fixture(params=["knarr", "buildkit"])
def builder(request: pytest.FixtureRequest) -> str:
    """The address of a builder."""
    if request.param == "buildkit":
        if not THEIRS:
            pytest.skip("BUILDKIT_HOST names no buildkitd")
        return THEIRS
    return f"unix://{request.getfixturevalue('own_daemon').socket}"


@pytest.fixture
def busybox(bases: Any) -> str:
    """busybox by a name that every builder of this machine can resolve."""
    return f"{bases.address}/library/busybox"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A directory with files of several kinds, and an ignore file."""
    place = tmp_path / "context"
    (place / "sub/deep").mkdir(parents=True)
    (place / "hello").write_text("hello\n")
    (place / "hello").chmod(0o664)
    (place / "link").symlink_to("hello")
    (place / "sub/one").write_text("1")
    (place / "sub/deep/two").write_text("2" * 300_000)
    os.link(place / "sub/one", place / "sub/same")
    (place / "secret.txt").write_text("do not send")
    (place / ".dockerignore").write_text("*.txt\n")
    return place
