"""The checksum of selected paths as BuildKit computes it: what the contents in a shared cache are called.

`contenthash` has this program's own checksum, which no two trees share. This one is
for records that other builders read and write, so it follows theirs byte by byte,
weaknesses included; a result is looked up by it in shared caches only.

    entry      sha256(header | content), the header being that of tarsum v1: no name, no time
    directory  sha256(NUL, its own entry, then NUL, name, checksum of each child by name)
    selection  one path: its checksum; with wildcards or patterns: sha256 over the
               paths and entries that were taken, directories without what is in them

Spec: BuildKit v0.33, cache/contenthash.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from knarr.cache.contenthash import split_wildcard
from knarr.cache.statcache import StatCache
from knarr.errors import ContentError
from knarr.paths import clean, inside
from knarr.patterns import Matcher, match
from knarr.solver.keys import Selection
from knarr.streams import CHUNK

NOTHING = (
    f"sha256:{sha256().hexdigest()}"  # of a selection that takes nothing, and of what is not there to be looked at
)


class SharedHasher:
    """Checksums of paths of the directory `root`, which must not change meanwhile.

    The arguments are those of `contenthash.TreeHasher`. `is_context` says that `root` is what a
    client sends: its root directory then has no mode or owner. Threads may share it; they take turns.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        hidden: Matcher | None = None,
        is_context: bool = False,
        cache: StatCache | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = os.fspath(root)
        self._hidden = hidden
        self._is_context = is_context
        self._cache = cache
        self._check = check
        self._directories: dict[str, str] = {}
        self._lock = threading.Lock()

    def checksum_of(self, selection: Selection) -> str:
        """The checksum (`sha256:…`) of what is selected; nothing at the path has one as well.

        Raises:
            ContentError: something cannot be read.
        """
        try:
            with self._lock:
                if selection.wildcard or selection.include or selection.exclude:
                    return self._listed(selection)
                return self._node(self._resolve(selection.path, follow=selection.follow))
        except (FileNotFoundError, NotADirectoryError):
            return NOTHING  # `contenthash` says what is missing, and fails
        except OSError as error:
            raise ContentError(f"a file cannot be read for its checksum: {error.strerror}") from error

    def _resolve(self, path: str, *, follow: bool) -> str:
        """The path below the root, without a leading slash, with symlinks followed inside it."""
        return inside(self._root, path, follow_last=follow)[len(self._root) :].lstrip("/")

    # --- one path

    def _node(self, path: str) -> str:
        found = os.lstat(self._at(path))
        return self._directory(path) if stat.S_ISDIR(found.st_mode) else self._entry(path, found)

    def _directory(self, top: str) -> str:
        """The checksum of a directory with all that is in it. Without recursion: a path may be 2,000 deep."""
        open_ = [] if top in self._directories else [self._scan(top)]
        while open_:
            path, children, inner = open_[-1]
            if inner:
                open_.append(self._scan(inner.pop()))
                continue
            open_.pop()
            self._directories[path] = self._gather(path, children)
        return self._directories[top]

    def _scan(self, path: str) -> tuple[str, list[str], list[str]]:
        """(path, names in it, paths of the directories among them that have no checksum yet)."""
        self._check()
        children = self._children(path)
        paths = [_join(path, name) for name in children]
        inner = [child for child in paths if child not in self._directories and self._is_directory(child)]
        return path, children, inner

    def _is_directory(self, path: str) -> bool:
        return stat.S_ISDIR(os.lstat(self._at(path)).st_mode)

    def _gather(self, path: str, children: list[str]) -> str:
        digest = sha256(b"\0" + self._header(path).encode())
        for name in children:
            inner = _join(path, name)
            node = self._directories.get(inner) or self._entry(inner, os.lstat(self._at(inner)))
            digest.update(b"\0" + os.fsencode(name) + node.encode())
        return f"sha256:{digest.hexdigest()}"

    def _children(self, directory: str) -> list[str]:
        """The names in a directory that are shown, in the order of their bytes."""
        hidden = self._hidden
        names = sorted(os.listdir(self._at(directory)), key=os.fsencode)
        return names if hidden is None else [name for name in names if self._is_shown(_join(directory, name))]

    def _is_shown(self, path: str) -> bool:
        """Whether a path is there: it is not hidden, or is a directory in which something is not."""
        hidden = self._hidden
        if hidden is None or not hidden.matches(path):
            return True
        if not hidden.may_contain_match(path) or not self._is_directory(path):
            return False
        return any(self._is_shown(_join(path, name)) for name in os.listdir(self._at(path)))

    # --- entries

    def _header(self, path: str) -> str:
        """The checksum of a directory alone."""
        if self._is_context and not path:
            return NOTHING
        return self._entry(path, os.lstat(self._at(path)))

    def _entry(self, path: str, found: os.stat_result) -> str:
        known = self._cache.lookup(found) if self._cache is not None else None
        if known is None:
            known = self._read(self._at(path), found)
            if self._cache is not None and not stat.S_ISDIR(found.st_mode):
                self._cache.remember(found, known)
        return f"sha256:{known.hex()}"

    def _read(self, place: str, found: os.stat_result) -> bytes:
        if not stat.S_ISREG(found.st_mode):
            link = os.readlink(place) if stat.S_ISLNK(found.st_mode) else ""
            return sha256(self._tarsum(place, found, link)).digest()
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            digest = sha256(self._tarsum(descriptor, found))
            while data := os.read(descriptor, CHUNK):
                self._check()
                digest.update(data)
            return digest.digest()
        finally:
            os.close(descriptor)

    def _tarsum(self, target: str | int, found: os.stat_result, link: str = "") -> bytes:
        """The header of tarsum v1. Device numbers are never in it: BuildKit leaves them at 0."""
        mode = found.st_mode
        uid, gid = (0, 0) if self._is_context else (found.st_uid, found.st_gid)
        kind = _TYPES.get(stat.S_IFMT(mode), "0")
        size = found.st_size if stat.S_ISREG(mode) else 0
        permissions = 0o777 if link else stat.S_IMODE(mode)
        text = (
            f"namemode{permissions}uid{uid}gid{gid}size{size}typeflag{kind}linkname{link}unamegnamedevmajor0devminor0"
        )
        return os.fsencode(text) + b"".join(os.fsencode(name) + value for name, value in _attributes(target))

    # --- wildcards and patterns

    def _listed(self, selection: Selection) -> str:
        path = clean(selection.path)
        fixed, starts = self._starts(selection)
        taken = [entry for start in starts for entry in self._walk(start, selection)]
        if not taken:
            return NOTHING
        if len(taken) == 1 and taken[0][0].rpartition("/")[2] == path.rpartition("/")[2]:
            return taken[0][1]
        digest = sha256()
        for shown, checksum in taken:
            name = shown.removeprefix(fixed).replace("/", "\0")
            digest.update(os.fsencode(name or "\0") + checksum.encode())
        return f"sha256:{digest.hexdigest()}"

    def _starts(self, selection: Selection) -> tuple[str, list[tuple[str, str]]]:
        """The part of the path without wildcards, and (path as asked for, path in the tree) of what matches."""
        path = clean(selection.path).rstrip("/")
        if not selection.wildcard:
            return path, [(path, self._resolve(path, follow=False))]
        fixed, pattern = split_wildcard(path.lstrip("/"))
        base = self._resolve(fixed, follow=True)
        shown = f"/{fixed}" if fixed else ""
        names = sorted(self._expand(base, pattern), key=_order)
        return shown, [(f"{shown}/{name}", _join(base, name)) for name in names]

    def _expand(self, base: str, pattern: list[str]) -> list[str]:
        found = [""]
        for part in pattern:
            deeper = []
            for directory in found:
                here = _join(base, directory)
                if directory and os.path.islink(self._at(here)):
                    continue
                try:
                    names = os.listdir(self._at(here))
                except (FileNotFoundError, NotADirectoryError):
                    continue
                fits = (name for name in names if match(part, name) and self._is_shown(_join(here, name)))
                deeper += [_join(directory, name) for name in fits]
            found = deeper
        return found

    def _walk(self, start: tuple[str, str], selection: Selection) -> Iterator[tuple[str, str]]:
        """(path, checksum) of what is taken of one match: directories by their headers, before what is in them."""
        include = Matcher(selection.include) if selection.include else None
        exclude = Matcher(selection.exclude) if selection.exclude else None
        shown, path = start
        skip_own_header = selection.path.endswith("/") and clean(selection.path) == "/" and not path
        above: list[tuple[str, str]] = []  # headers of directories that count once something in them does
        todo = [(shown, path, "")]
        while todo:
            shown, path, inner = todo.pop()
            self._check()
            found = os.lstat(self._at(path))
            is_directory = stat.S_ISDIR(found.st_mode)
            above = [entry for entry in above if shown.startswith(entry[0] + "/")]
            is_taken = (include is None or include.matches(inner)) and (exclude is None or not exclude.matches(inner))
            if is_directory:
                todo += [
                    (f"{shown}/{name}", _join(path, name), _join(inner, name))
                    for name in reversed(self._children(path))
                ]
                if skip_own_header and not inner:
                    continue
                if not is_taken:
                    above.append((shown, self._header(path)))
                    continue
            elif not is_taken:
                continue
            yield from above
            above = []
            follows = not inner and selection.follow and stat.S_ISLNK(found.st_mode)
            if follows:
                yield shown, self._node(self._resolve(path, follow=True))
            else:
                yield shown, self._header(path) if is_directory else self._entry(path, found)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


_TYPES = {
    stat.S_IFREG: "0",
    stat.S_IFLNK: "2",
    stat.S_IFCHR: "3",
    stat.S_IFBLK: "4",
    stat.S_IFDIR: "5",
    stat.S_IFIFO: "6",
}


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory and name else directory or name


def _order(path: str) -> bytes:
    """So that what is in a directory comes right behind it, before names that are longer than its own."""
    return os.fsencode(path).replace(b"/", b"\0")


def _attributes(target: str | int) -> list[tuple[str, bytes]]:
    """The extended attributes that count, by name."""
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError:  # the file system has none
        return []
    return [(name, os.getxattr(target, name, follow_symlinks=follow)) for name in sorted(names) if _counts(name)]


def _counts(attribute: str) -> bool:
    if attribute == "security.capability":
        return True
    # overlayfs shows its own attributes of a layer to nobody; we look at layers from beside it.
    return not attribute.startswith(("security.", "system.", "trusted.overlay.", "user.overlay."))
