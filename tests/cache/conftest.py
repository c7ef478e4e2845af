from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Files = Mapping[str, str | None]
PlantTree = Callable[[Path, Files], Path]


@pytest.fixture(scope="session")
def plant() -> PlantTree:
    def plant(root: Path, files: Files) -> Path:
        """Make a tree: a path ending in `/` is a directory, a text starting with `->` a symlink, all else a file."""
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o755)
        for name, text in files.items():
            path = root / name
            for parent in reversed(path.relative_to(root).parents[:-1]):
                (root / parent).mkdir(exist_ok=True)
                (root / parent).chmod(0o755)
            if text is None:
                path.mkdir(exist_ok=True)
                path.chmod(0o755)
            elif text.startswith("->"):
                os.symlink(text[2:], path)
            else:
                path.write_text(text)
                path.chmod(0o644)
        return root

    return plant
