"""Volumes: directories below the state directory that outlive containers, by name.

    volumes/<name>/_data   what containers see

An anonymous volume has a random name and goes with its container. One that is empty begins
with what the image has at its place, owners included, as docker does it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from knarr.errors import NotFound, UsageError
from knarr.paths import inside

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}\Z")


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a volume.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be the name of a volume",
            hint="letters, digits, '_', '.' and '-'; a directory of this machine is written as an absolute path",
        )


class Volumes:
    """The volumes below the state directory `root`."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "volumes"

    def make(self, name: str) -> Path:
        """The directory of the volume, made if there is none."""
        data = self.directory / name / "_data"
        for path in (self.directory, data.parent):
            path.mkdir(mode=0o711, exist_ok=True)
        data.mkdir(mode=0o755, exist_ok=True)
        return data

    def path(self, name: str) -> Path:
        """The directory of a volume that must be there.

        Raises:
            NotFound: it is not.
        """
        data = self.directory / name / "_data"
        if not data.is_dir():
            raise NotFound(f"there is no volume {name}", hint="`knarr volume ls` lists what there is")
        return data

    def names(self) -> list[str]:
        """All of them, by name."""
        try:
            return sorted(name for name in os.listdir(self.directory) if (self.directory / name / "_data").is_dir())
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """Remove the volume and what is in it; one that is not there is success."""
        from knarr.snapshot import tree

        tree.remove(os.fspath(self.directory / name))


def fill(data: Path, root: Path, target: str) -> None:
    """Let the empty volume at `data` begin with what the tree at `root` has at `target`, if it has something."""
    from knarr.snapshot import tree

    source = inside(root, target)
    if os.path.islink(source) or not os.path.isdir(source) or os.listdir(data):
        return
    tree.clone(source, os.fspath(data))
