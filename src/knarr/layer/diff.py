"""Write what changed in a tree as a layer tar.

Three questions, one walk: an overlay upper directory against what is below it
(`write_upper`), one whole tree against another (`write_between`), and a tree
against nothing (`write_tree`). The second is the first with an upper that hides
everything below: what it does not have is deleted.

The result is BuildKit's for the same trees (its overlay differ, v0.33):

- entries in lexical order of their names, directory by directory, the root not
  among them;
- a directory that is only there to hold a change has an entry, but one that
  changed in nothing and holds no change has none; its time is not a change;
- a file copied up and left as it was has no entry;
- opaque directories become explicit whiteouts, which every tool understands
  (image-spec v1.1, layer.md: "SHOULD generate layers using explicit whiteout");
- of extended attributes only capabilities are written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from knarr import virtual
from knarr.errors import LayerInvalid, Unsupported
from knarr.layer.lowers import Merged
from knarr.layer.samefile import same
from knarr.layer.tree_write import TreeWriter
from knarr.layer.whiteout import PREFIX, is_overlay_opaque, is_overlay_whiteout, marker, overlay_redirect
from knarr.record import record
from knarr.streams import Writable


@record
class Options:
    """How to write a diff.

    `max_mtime_s`: later times are cut to it. `check` runs per directory
    (cancellation). `by_content`: the trees are of different origin, see `samefile`.
    """

    max_mtime_s: int | None = None
    check: Callable[[], None] | None = None
    by_content: bool = False


def write_upper(upper: Path, lowers: Sequence[Path], out: Writable, *, options: Options | None = None) -> None:
    """Write the overlay upper directory `upper`; `lowers` are the directories below it, topmost first.

    Raises:
        ContentError: a file changes while it is read.
        LayerInvalid: a file has a whiteout's name, which no layer can hold.
        Unsupported: the overlay was mounted with redirect_dir.
    """
    lower = Merged([os.fspath(path) for path in lowers]) if lowers else None
    _Walk(out, options, overlay=True).run(os.fspath(upper), lower, hides=False)


def write_tree(root: Path, out: Writable, *, options: Options | None = None) -> None:
    """Write everything below `root`."""
    _Walk(out, options, overlay=False).run(os.fspath(root), None, hides=False)


def write_between(lowers: Sequence[Path], upper: Path, out: Writable, *, options: Options | None = None) -> None:
    """Write what must be done to one tree to get the whole tree `upper`.

    The first tree is the union of the directories `lowers`, topmost first, as
    overlayfs would show it; `upper` may be mounted.
    """
    _Walk(out, options, overlay=False).run(os.fspath(upper), Merged([os.fspath(path) for path in lowers]), hides=True)


class _Level:
    """A directory the walk is in."""

    __slots__ = ("hides", "lower", "name", "names", "path", "pending")

    def __init__(
        self, path: str, name: str, lower: Merged | None, hides: bool, names: Iterator[str], pending: bytes | None
    ) -> None:
        self.path = path  # on this machine, with a slash at its end
        self.name = name  # in the layer, likewise; empty for the root
        self.lower = lower  # what was there before
        self.hides = hides  # nothing below shows through
        self.names = names  # still to visit
        self.pending = pending  # its own header, until something in it needs it


class _Walk:
    def __init__(self, out: Writable, options: Options | None, *, overlay: bool) -> None:
        options = options or Options()
        self._writer = TreeWriter(out, max_mtime_s=options.max_mtime_s)
        self._check = options.check
        self._by_content = options.by_content
        self._overlay = overlay
        # A stack and not recursion: paths may be deeper than Python's frames.
        self._levels: list[_Level] = []
        self._quiet = True  # no level has a pending header

    def run(self, root: str, lower: Merged | None, *, hides: bool) -> None:
        self._enter(root + "/", "", lower, hides=hides, pending=None)
        while self._levels:
            level = self._levels[-1]
            name = next(level.names, None)
            if name is None:
                self._levels.pop()
            else:
                self._visit(level, name)
        self._writer.close()

    def _enter(self, path: str, name: str, lower: Merged | None, *, hides: bool, pending: bytes | None) -> None:
        if self._check is not None:
            self._check()
        names: list[str] | set[str] = os.listdir(path)
        if hides and lower is not None:
            names = {*names, *lower.names()}
        ordered = sorted(names) if all(map(str.isascii, names)) else sorted(names, key=os.fsencode)
        if pending is not None:
            self._quiet = False
        self._levels.append(_Level(path, name, lower, hides, iter(ordered), pending))

    def _visit(self, level: _Level, name: str) -> None:
        path, shown = level.path + name, level.name + name
        try:
            status = virtual.seen(path, os.lstat(path))
        except FileNotFoundError:
            if not level.hides:
                raise
            self._delete(level, name)
            return
        if self._overlay and is_overlay_whiteout(status, path):
            if level.lower is not None and level.lower.child(name) is not None:
                self._delete(level, name)
            return
        if name.startswith(PREFIX):
            raise LayerInvalid(f"/{shown}: no layer can hold a file whose name begins with {PREFIX}")
        found = level.lower.child(name) if level.lower is not None else None
        changed = found is None or not same(found.status, found.path, status, path, by_content=self._by_content)
        if stat.S_ISDIR(status.st_mode):
            self._directory(level, name, status, found.merged if found else None, changed=changed)
        elif changed:
            if not self._quiet:
                self._flush()
            self._writer.file(shown, path, status)
        else:
            self._writer.spare(shown, status)

    def _delete(self, level: _Level, name: str) -> None:
        self._flush()
        self._writer.whiteout(level.name + marker(name))

    def _directory(
        self, level: _Level, name: str, status: os.stat_result, lower: Merged | None, *, changed: bool
    ) -> None:
        path, shown = level.path + name, level.name + name
        hides = level.hides
        if self._overlay:
            if overlay_redirect(path):
                raise Unsupported(
                    f"/{shown}: the directory was renamed by overlayfs with redirect_dir, which a layer cannot express",
                    hint="mount with redirect_dir=off",
                )
            hides = hides or is_overlay_opaque(path)
        pending: bytes | None = self._writer.directory(shown, path, status)
        if changed and pending is not None:
            self._flush()
            self._writer.put(pending)
            pending = None
        self._enter(path + "/", shown + "/", lower, hides=hides, pending=pending)

    def _flush(self) -> None:
        """Write the directories above that were waiting for a reason."""
        if self._quiet:
            return
        for level in self._levels:
            if level.pending is not None:
                self._writer.put(level.pending)
                level.pending = None
        self._quiet = True
