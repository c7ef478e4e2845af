"""Real mounts on a temporary directory, in a mount namespace of the test process's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.snapshot.namespace import private_mounts


@pytest.fixture(scope="session", autouse=True)
def own_mounts() -> bool:
    """No test's mount is ever the machine's."""
    return private_mounts()


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """A place to mount at."""
    return tmp_path / "mounted"


@pytest.fixture(autouse=True)
def plain_umask() -> None:
    os.umask(0o022)
