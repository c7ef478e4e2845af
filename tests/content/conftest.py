from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.content.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "content")
    yield store
    store.close()
