"""Trees to scan, written as a mapping of paths to contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from knarr.sbom.limits import Limits
from knarr.sbom.package import Inventory
from knarr.sbom.scan import scan

Scan = Callable[..., Inventory]


@pytest.fixture
def scanned(tmp_path: Path) -> Scan:
    """Writes files into a root and scans it."""

    def run(files: Mapping[str, str | bytes] | None = None, limits: Limits | None = None) -> Inventory:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for name, content in (files or {}).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return scan(str(root), limits=limits)

    return run
