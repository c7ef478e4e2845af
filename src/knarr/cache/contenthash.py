"""One checksum of selected paths of a tree: equal content gives equal checksums, on any machine, at any time.

What counts is told in `treenode`; times never do, nor does the root's own mode. Only
what is selected is looked at.

    hasher = TreeHasher(context, zero_owner=True, cache=StatCache.for_directory(caches, context))
    hasher.checksum("src")
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from knarr import virtual
from knarr.cache.statcache import StatCache
from knarr.cache.treenode import NO_BYTES, body_of, describe, head, named, with_attributes
from knarr.errors import ContentError, NotFound
from knarr.paths import clean, inside
from knarr.patterns import Matcher, has_wildcard, match
from knarr.solver.explain import shallowest
from knarr.solver.keys import Selection
from knarr.streams import CHUNK


class TreeHasher:
    """Checksums of paths of the directory `root`, which must not change meanwhile.

    `hidden` paths are not there; a hidden directory is there if something below it is not hidden.
    `name` is what messages call the tree. `check` is called now and then, and may raise to stop.
    Directories are hashed once in the life of a hasher. Threads may share it; they take turns.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        hidden: Matcher | None = None,
        zero_owner: bool = False,
        cache: StatCache | None = None,
        name: str = "tree",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = os.fspath(root)
        self._hidden = hidden
        self._zero_owner = zero_owner
        self._cache = cache
        self._name = name
        self._check = check
        self._directories: dict[str, bytes | None] = {}  # nodes by path; None: all of it is hidden
        self._asked: set[str] = set()  # paths that were selected or met on the way to one
        self._scanned: set[str] = set()  # directories whose entries were looked at
        self._lock = threading.Lock()

    def checksum(
        self,
        path: str,
        *,
        follow: bool = False,
        wildcard: bool = False,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        required: tuple[str, ...] = (),
    ) -> str:
        """The checksum of one selection; see `checksum_of`."""
        return self.checksum_of(Selection(path, follow, wildcard, include, exclude, required))

    def checksum_of(self, selection: Selection) -> str:
        """The checksum (hex) of what is selected. A wildcard that matches nothing has one as well.

        Raises:
            NotFound: nothing at the path, or something that is required was not among what was taken.
            ContentError: something cannot be read.
        """
        seen: Seen = {} if selection.required else None
        digest = self._digest(selection, seen)
        self._require(selection, seen or {})
        return digest

    def checksum_and_listing(self, selection: Selection) -> tuple[str, dict[str, str]]:
        """`checksum_of`, and `listing` of what is nearest to the top, for the price of one."""
        seen: dict[str, bytes] = {}
        digest = self._digest(selection, seen)
        self._require(selection, seen)
        return digest, _described(shallowest(seen))

    def listing(self, selection: Selection) -> dict[str, str]:
        """What each selected path is: `mode owner digest`, by its path in the tree. For people and for `explain`."""
        seen: dict[str, bytes] = {}
        self._digest(selection, seen)
        return _described(seen)

    def _require(self, selection: Selection, seen: Mapping[str, bytes]) -> None:
        for start in selection.required:
            if not any(name.startswith(clean(start).lstrip("/")) for name in seen):
                raise self._missing(start)

    def looked_at(self) -> set[str]:
        """Every path on this machine that the checksums so far depend on: if none of them changes, they hold."""
        with self._lock:
            paths = {f"{self._root}/{path}".rstrip("/") for path in self._asked | self._scanned}
            for directory in self._scanned:
                here = f"{self._root}/{directory}".rstrip("/")
                try:
                    paths.update(f"{here}/{name}" for name in os.listdir(here))
                except (FileNotFoundError, NotADirectoryError):
                    continue
        return paths

    def _digest(self, selection: Selection, seen: Seen) -> str:
        try:
            with self._lock:
                return self._matches(selection, seen) if selection.wildcard else self._one(selection, seen)
        except OSError as error:
            place = self._shown(error.filename)
            raise ContentError(f"{place}: cannot be read from the {self._name}: {error.strerror}") from error

    # --- selections

    def _one(self, selection: Selection, seen: Seen) -> str:
        path = selection.path
        relative = self._resolve(path, follow=selection.follow)
        found = self._lstat(path, relative)
        node = self._node(relative, found, selection, seen)
        if node is None:
            raise self._missing(path)
        contents_only = path.endswith("/") and _has_patterns(selection) and stat.S_ISDIR(found.st_mode)
        return sha256(node if relative and not contents_only else body_of(node)).hexdigest()

    def _matches(self, selection: Selection, seen: Seen) -> str:
        fixed, pattern = split_wildcard(clean(selection.path).lstrip("/"))
        base = self._resolve(fixed, follow=True)
        parts: list[bytes] = []
        for name in sorted(self._expand(base, pattern)):
            shown = path = f"{base}/{name}" if base else name
            hidden = self._hidden
            if hidden is not None and hidden.matches(path) and not hidden.may_contain_match(path):
                continue  # before it is followed: a hidden link may lead nowhere
            if selection.follow:
                path = self._resolve(path, follow=True)
            node = self._node(path, self._lstat(shown, path), selection, seen)
            if node is None and path != shown:
                raise self._missing(shown)  # a link to what is hidden
            if node is not None:
                parts += (named(name), node)
        return sha256(b"".join(parts)).hexdigest()

    def _expand(self, base: str, pattern: Sequence[str]) -> list[str]:
        """The paths below `base` that match, part by part; symlinks on the way are not followed."""
        found = [""]
        for depth, part in enumerate(pattern):
            last = depth == len(pattern) - 1
            deeper = []
            for directory in found:
                here = "/".join(filter(None, (self._root, base, directory)))
                self._scanned.add("/".join(filter(None, (base, directory))))
                try:
                    with os.scandir(here) as entries:
                        names = [e.name for e in entries if last or e.is_dir(follow_symlinks=False)]
                except (FileNotFoundError, NotADirectoryError):
                    continue
                deeper += [f"{directory}/{name}" if directory else name for name in names if match(part, name)]
            found = deeper
        return found

    def _resolve(self, path: str, *, follow: bool) -> str:
        """The path below the root, without a leading slash, with symlinks followed inside it."""
        found = inside(self._root, path, follow_last=follow)[len(self._root) :].lstrip("/")
        for asked in (clean(path).lstrip("/"), found):
            while asked not in self._asked:
                self._asked.add(asked)
                asked = asked.rpartition("/")[0]
        return found

    def _lstat(self, path: str, relative: str) -> os.stat_result:
        try:
            place = f"{self._root}/{relative}"
            return virtual.seen(place, os.lstat(place))
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(path) from None

    # --- nodes

    def _node(self, path: str, found: os.stat_result, selection: Selection, seen: Seen) -> bytes | None:
        """The node of `path`, or None if nothing of it is shown. Patterns are for what is below a directory."""
        hidden = self._hidden
        is_hidden = hidden is not None and path != "" and hidden.matches(path)
        if not stat.S_ISDIR(found.st_mode):
            if is_hidden:
                return None
            node = self._leaf(f"{self._root}/{path}", found)
            if seen is not None:
                seen[path] = node
            return node
        if hidden is None and not _has_patterns(selection):
            return self._directory(path, None, seen)
        shown = _Shown(path, hidden, selection)
        if is_hidden and not shown.enters(path):
            return None
        return self._directory(path, shown, seen)

    def _directory(self, top: str, shown: _Shown | None, seen: Seen) -> bytes | None:
        """The node of a directory. Without recursion: a path may be 2,000 directories deep."""
        nodes = self._directories if shown is None or shown.is_whole_tree else {}
        if seen is not None:
            nodes = {}  # all must be met once more
        if top in nodes:
            return nodes[top]
        open_ = [self._scan(top, shown, seen)]
        while open_:
            path, children, todo = open_[-1]
            if todo:
                inner = todo.pop()
                if inner not in nodes:
                    open_.append(self._scan(inner, shown, seen))
                continue
            open_.pop()
            node = self._gather(path, children, nodes, optional=shown is not None and path in shown.sparse)
            nodes[path] = node
            if seen is not None and node is not None and path:
                seen[path] = node
        return nodes[top]

    def _scan(self, path: str, shown: _Shown | None, seen: Seen) -> tuple[str, Children, list[str]]:
        """The path, its children with their nodes, and the paths of those that are directories: they have none yet."""
        self._check()
        self._scanned.add(path)
        children: Children = []
        todo: list[str] = []
        prefix = path + "/" if path else ""
        with os.scandir(f"{self._root}/{path}") as entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if shown is None or shown.enters(prefix + name):
                        children.append((name, None))
                        todo.append(prefix + name)
                elif shown is None or shown.shows(prefix + name):
                    node = self._leaf(entry.path, virtual.seen(entry.path, entry.stat(follow_symlinks=False)))
                    children.append((name, node))
                    if seen is not None:
                        seen[prefix + name] = node
        return path, children, todo

    def _gather(
        self,
        path: str,
        children: Children,
        nodes: dict[str, bytes | None],
        *,
        optional: bool,
    ) -> bytes | None:
        prefix = path + "/" if path else ""
        children.sort()
        parts: list[bytes] = []
        for name, known in children:
            node = nodes[prefix + name] if known is None else known
            if node is not None:
                parts += (named(name), node)
        if optional and not parts:
            return None
        here = f"{self._root}/{path}"
        return head(virtual.seen(here, os.lstat(here)), zero_owner=self._zero_owner) + with_attributes(
            here, sha256(b"".join(parts)).digest()
        )

    def _leaf(self, path: str, found: os.stat_result) -> bytes:
        """The node of anything but a directory."""
        cache = self._cache
        body = cache.lookup(found) if cache is not None else None
        if body is None:
            body = self._body(path, found)
            if cache is not None:
                cache.remember(found, body)
        return head(found, zero_owner=self._zero_owner) + body

    def _body(self, path: str, found: os.stat_result) -> bytes:
        if stat.S_ISREG(found.st_mode):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                return with_attributes(descriptor, self._content(descriptor, found.st_size))
            finally:
                os.close(descriptor)
        if stat.S_ISLNK(found.st_mode):
            return with_attributes(path, sha256(os.fsencode(os.readlink(path))).digest())
        return with_attributes(path, NO_BYTES)

    def _content(self, descriptor: int, size: int) -> bytes:
        """The sha256 of an open file, to its end, wherever that is by now."""
        digest = sha256()
        if size < CHUNK:
            data = os.read(descriptor, size + 1)
            digest.update(data)
            if len(data) == size:
                return digest.digest()
        while data := os.read(descriptor, CHUNK):
            self._check()
            digest.update(data)
        return digest.digest()

    # --- messages

    def _shown(self, place: object) -> str:
        """The path inside the tree of a failed call's `filename`, which may be a descriptor or missing."""
        return (place.removeprefix(self._root).lstrip("/") or "/") if isinstance(place, str) else "a file"

    def _missing(self, path: str) -> NotFound:
        from knarr.cache.missing import missing  # only when all is lost anyway

        return missing(self._root, path, self._hidden, name=self._name)


def _described(seen: Mapping[str, bytes]) -> dict[str, str]:
    return {name: describe(node) for name, node in sorted(seen.items())}


Children = list[tuple[str, bytes | None]]  # names and nodes; a directory's node is not known yet
Seen = dict[str, bytes] | None  # nodes by path, for who wants to know


class _Shown:
    """Which entries below the directory `top` count: what is not hidden, and what the patterns leave of it."""

    def __init__(self, top: str, hidden: Matcher | None, selection: Selection) -> None:
        self._hidden = hidden
        self._skip = len(top) + 1 if top else 0
        self.is_whole_tree = not _has_patterns(selection)
        self.sparse: set[str] = set()  # directories that only count if something below them does
        self._include = Matcher(selection.include) if selection.include else None
        self._exclude = Matcher(selection.exclude) if selection.exclude else None

    def shows(self, path: str) -> bool:
        if self._hidden is not None and self._hidden.matches(path):
            return False
        inner = path[self._skip :]
        if self._include is not None and not self._include.matches(inner):
            return False
        return self._exclude is None or not self._exclude.matches(inner)

    def enters(self, path: str) -> bool:
        """Whether to look into a directory."""
        if self.shows(path):
            return True
        if self._hidden is not None and self._hidden.matches(path) and not self._hidden.may_contain_match(path):
            return False
        inner = path[self._skip :]
        exclude = self._exclude
        if exclude is not None and exclude.matches(inner) and not exclude.may_contain_match(inner):
            return False
        self.sparse.add(path)
        return True


def _has_patterns(selection: Selection) -> bool:
    return bool(selection.include or selection.exclude)


def split_wildcard(path: str) -> tuple[str, list[str]]:
    """The part of `path` before its first wildcard, and the parts from there on."""
    parts = path.split("/")
    first = next((index for index, part in enumerate(parts) if has_wildcard(part)), len(parts) - 1)
    return "/".join(parts[:first]), parts[first:]
