"""Snapshots as whole trees: each one a full copy of its parent, shared by reflink where the disk can.

Slow and large without reflinks, but it needs nothing of the kernel: the driver
for file systems and containers on which overlay cannot be mounted.
"""

from __future__ import annotations

import os
from pathlib import Path

from knarr.snapshot import tree
from knarr.snapshot.driver import Driver
from knarr.snapshot.ledger import Entry
from knarr.snapshot.snapshotter import Mount


class Native(Driver):
    """The driver of last resort."""

    name = "native"

    def _lay_out(self, entry: Entry) -> None:
        directory = self._directory(entry.id)
        os.mkdir(directory, 0o711)
        os.mkdir(directory + "/fs", 0o755)
        if entry.kind == "active" and entry.parent is not None:
            tree.clone(self._fs(entry.parent), directory + "/fs")

    def _mounts(self, entry: Entry) -> tuple[Mount, ...]:
        if entry.kind == "active":
            return (Mount("bind", self._fs(entry.id), ("bind",)),)
        shown = entry.parent if entry.kind == "view" and entry.parent is not None else entry.id
        return (Mount("bind", self._fs(shown), ("bind", "ro")),)

    def over(self, parent: str | None, place: Path, *, fleeting: bool = False) -> tuple[Mount, ...]:
        whole, draft = os.fspath(place / "fs"), os.fspath(place / "fs.new")
        if not os.path.isdir(whole):
            tree.remove(draft)  # half of one, whose making was killed
            os.mkdir(draft, 0o755)
            for layer in self.layers(parent):
                tree.clone(os.fspath(layer), draft)
            os.rename(draft, whole)
        return (Mount("bind", whole, ("bind",)),)

    def upper(self, name: str) -> Path | None:
        return None

    def layers(self, name: str | None) -> tuple[Path, ...]:
        return () if name is None else (Path(self._fs(self._ledger.need(name).id)),)
