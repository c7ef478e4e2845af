"""The directories a layer is unpacked into: resolved once, and their lower content removed on demand.

A path is walked part by part from the root; where a part is a symlink,
`paths.inside` resolves it as if the root were `/`. What comes out is a `Parent`:
a path with no symlink in it, certainly below the root, so that files can be made
in it by name.

Invariant: a `Parent` may only be used while its path still leads where it led.
Removing a directory or a symlink may change that, so whatever does it goes
through `_remove`, after which every path is resolved anew.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TypeVar

from knarr import paths
from knarr.errors import LayerInvalid

_MAX_KNOWN = 4096  # directories remembered; a tar goes through a tree depth first, so few are in use

T = TypeVar("T")


class Parent:
    """A directory below the root. `made` are the names this layer has put into it."""

    __slots__ = ("made", "path", "where")

    def __init__(self, path: str, where: str, made: set[str]) -> None:
        self.path = path  # on this machine, with a slash at its end
        self.where = where  # below the root, with a slash at its end; empty for the root itself
        self.made = made


class Parents:
    """Finds and makes directories below `root`. Owned by one unpacking."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._made: dict[str, set[str]] = {}  # by `where`
        self._known: dict[str, Parent] = {}  # by the name that was asked for
        self._top = self._parent("")
        self.times: dict[str, int] = {}  # directories' times to set in the end: `where` → mtime_ns

    def get(self, name: str) -> Parent:
        """The directory `name` of the layer; missing ones are made, 0755 and root's, as containerd does.

        `name` has no empty, `.` or `..` parts.

        Raises:
            LayerInvalid: something on the way is not a directory.
        """
        known = self._known.get(name)
        if known is not None:
            return known
        parent = self._top
        so_far = ""
        for part in name.split("/") if name else ():
            so_far += part
            parent = self._known.get(so_far) or self._make(parent, part)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[so_far] = parent
            so_far += "/"
        return parent

    def find(self, name: str) -> Parent | None:
        """The directory `name`, which may have `..` parts, if it is there."""
        known = self._known.get(name)
        return known or self._existing(paths.inside(self._root, name))

    def place(self, parent: Parent, name: str, create: Callable[[], T]) -> T:
        """`create()`, which fails if `name` exists; then what is there is removed first."""
        try:
            return create()
        except FileExistsError:
            self._remove(parent, name)
            return create()

    def hide(self, parent: Parent, name: str) -> None:
        """Remove what lower layers left as `name`; what this layer made of it stays."""
        if name not in parent.made:
            self._remove(parent, name)
        elif _is_directory(parent.path + name):
            self.clear_lower(self._parent(f"{parent.where}{name}/"))

    def clear_lower(self, parent: Parent) -> None:
        """Remove everything in `parent` that lower layers left, at any depth."""
        todo = [parent]
        while todo:
            parent = todo.pop()
            for name in os.listdir(parent.path):
                if name not in parent.made:
                    self._remove(parent, name)
                elif _is_directory(parent.path + name):
                    todo.append(self._parent(f"{parent.where}{name}/"))

    def set_times(self) -> None:
        """Set the times that were noted, deepest directories first."""
        for where in sorted(self.times, key=lambda where: where.count("/"), reverse=True):
            mtime = self.times[where]
            os.utime(f"{self._root}/{where}", ns=(mtime, mtime), follow_symlinks=False)

    def _parent(self, where: str) -> Parent:
        return Parent(f"{self._root}/{where}", where, self._made.setdefault(where, set()))

    def _make(self, parent: Parent, part: str) -> Parent:
        """The directory `part` in `parent`, followed if it is a symlink and made if it is missing."""
        path = parent.path + part
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            _mkdir(path)
            mode = stat.S_IFDIR
        if stat.S_ISDIR(mode):
            # This layer has something in it: a whiteout may empty it, but not take it away.
            parent.made.add(part)
            return self._parent(f"{parent.where}{part}/")
        if not stat.S_ISLNK(mode):
            raise LayerInvalid(f"/{parent.where}{part}: is not a directory, but the layer has entries in it")
        return self._follow(paths.inside(self._root, parent.where + part))

    def _follow(self, real: str) -> Parent:
        """The directory a symlink leads to, made if it is missing."""
        parent = self._top
        for part in real[len(self._root) + 1 :].split("/") if real != self._root else ():
            if os.path.islink(parent.path + part):
                raise LayerInvalid(f"/{parent.where}{part}: symbolic links that lead in circles")
            parent = self._make(parent, part)
        return parent

    def _existing(self, real: str) -> Parent | None:
        where = real[len(self._root) + 1 :]
        if not _is_directory(real):
            return None
        return self._parent(f"{where}/") if where else self._top

    def _remove(self, parent: Parent, name: str) -> None:
        """Remove whatever `name` is in `parent`; nothing there is fine."""
        path = parent.path + name
        parent.made.discard(name)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            os.unlink(path)
            if stat.S_ISLNK(mode):
                self._known.clear()
            return
        remove_tree(path)
        self._known.clear()
        below = f"{parent.where}{name}/"
        self._made = {where: made for where, made in self._made.items() if not where.startswith(below)}
        self.times = {where: mtime for where, mtime in self.times.items() if not where.startswith(below)}


def _mkdir(path: str) -> None:
    os.mkdir(path, 0o755)
    os.chmod(path, 0o755)  # whatever the umask is


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def remove_tree(path: str) -> None:
    """Remove a directory and all below it, following nothing. (shutil's takes 10 ms to import.)"""
    todo = [path]
    while todo:
        here = todo[-1]
        inner = []
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.path)
                else:
                    os.unlink(entry.path)
        if inner:
            todo.extend(inner)
        else:
            os.rmdir(todo.pop())
