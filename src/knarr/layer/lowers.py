"""The union of overlay directories, looked into without mounting it.

A diff must know what an upper directory's whiteouts hide and whether what it
copied up differs from what is below. `Merged` answers for one directory of the
union at a time, so a walk that is inside a new directory asks nothing at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from knarr import virtual
from knarr.layer.whiteout import is_overlay_opaque, is_overlay_whiteout
from knarr.record import record


@record
class Found:
    """What the union has under a name."""

    status: os.stat_result
    path: str  # of the topmost file, the one that shows
    merged: Merged | None  # for a directory: what is in it


class Merged:
    """One directory of the union: `paths` are the directories that show through, topmost first."""

    __slots__ = ("_paths",)

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)

    def child(self, name: str) -> Found | None:
        """What the union has as `name` in this directory."""
        shown: os.stat_result | None = None
        paths: list[str] = []
        for directory in self._paths:
            path = f"{directory}/{name}"
            try:
                status = virtual.seen(path, os.lstat(path))
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode):
                if shown is None and not is_overlay_whiteout(status, path):
                    return Found(status, path, None)
                break
            shown = shown or status
            paths.append(path)
            if is_overlay_opaque(path):
                break
        return Found(shown, paths[0], Merged(paths)) if shown else None

    def names(self) -> set[str]:
        """The names the union has in this directory."""
        if len(self._paths) == 1:
            candidates = set(os.listdir(self._paths[0]))
        else:
            candidates = {name for path in self._paths for name in os.listdir(path)}
        return {name for name in candidates if self.child(name) is not None}
