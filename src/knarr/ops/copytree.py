"""Copy files from one tree into another, with the semantics of a Dockerfile's COPY.

Both trees are directories of this machine; every path is resolved inside its
root. Followed: what BuildKit's file op does (solver/llbsolver/file and fsutil's
copy at master of 2026-11), row by row of docs/reference/copy.md: implicit
parents take --chown and --chmod, a symlink named as a source is followed, one
found inside a tree is kept, a directory gives its contents.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence

from knarr import patterns, virtual
from knarr.errors import ContentError, KnarrError
from knarr.ops.copyfile import copy_file, copy_xattrs
from knarr.ops.copyfilter import CopyFilter
from knarr.paths import clean, inside
from knarr.record import record


@record
class Tree:
    """A readable source: a root, what it hides, and whether its owners count (a client's context has none)."""

    root: str
    hidden: patterns.Matcher | None = None
    zero_owner: bool = False
    only: tuple[str, ...] = ()  # the paths a build reads of it, as far as known; empty: perhaps all
    name: str = "image"  # as messages call it

    def shows(self, path: str) -> bool:
        """Whether `path` (clean, absolute) may be read by name."""
        return self.hidden is None or path == "/" or not self.hidden.matches(path[1:])


@record
class CopyOptions:
    """How a copy changes what it copies; see `llb.ops.Copy`."""

    owner: tuple[int, int] | None = None
    mode: int | None = None
    mode_text: str = ""
    time_ns: int | None = None
    contents: bool = False  # a directory source gives its contents
    follow: bool = True  # a symlink named as the source is followed
    replace: bool = False  # replace a target of another type
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def expand(tree: Tree, source: str, *, follow: bool) -> list[str]:
    """The clean paths of `tree` that the wildcard `source` names, sorted; `[source]` when it has no wildcard.

    A matched directory is not searched further. `*` does not cross `/`.
    """
    fixed, pattern = _split_wildcard(clean(source))
    if not pattern:
        return [fixed]
    base = inside(tree.root, fixed, follow_last=follow)
    found: list[str] = []
    depth = pattern.count("/")

    def search(directory: str, prefix: str, level: int) -> None:
        try:
            names = sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            relative = prefix + name
            path = clean(f"{fixed}/{relative}")
            if patterns.match(pattern, relative) and _visible(tree, path):
                found.append(path)
            elif level < depth and stat.S_ISDIR(os.lstat(f"{directory}/{name}").st_mode):
                search(f"{directory}/{name}", relative + "/", level + 1)

    search(base, "", 0)
    return found


def _visible(tree: Tree, path: str) -> bool:
    """A hidden directory still shows when something below it is re-included."""
    return tree.shows(path) or (tree.hidden is not None and tree.hidden.may_contain_match(path[1:]))


def _split_wildcard(path: str) -> tuple[str, str]:
    parts = path.strip("/").split("/")
    for index, part in enumerate(parts):
        if has_wildcard(part):
            return "/" + "/".join(parts[:index]), "/".join(parts[index:])
    return path, ""


def has_wildcard(part: str) -> bool:
    """Whether Go's filepath.Match would see a pattern in `part` (a backslash quotes the next character)."""
    escaped = False
    for character in part:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "*?[":
            return True
    return False


def make_parents(path: str, mode: int, owner: tuple[int, int] | None, time_ns: int | None) -> list[str]:
    """mkdir -p below a resolved path: only new directories get `mode`, `owner` and time. Returns them, outermost first.

    Raises:
        NotADirectoryError: something on the way is not a directory.
    """
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            return []
        raise NotADirectoryError(20, "Not a directory", path)
    except FileNotFoundError:
        pass
    head = os.path.dirname(path)
    made = make_parents(head, mode, owner, time_ns) if head != path else []
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            return made
        raise
    os.chmod(path, mode)
    if owner is not None:
        virtual.chown(path, *owner)
        os.chmod(path, mode)
    if time_ns is not None:
        os.utime(path, ns=(time_ns, time_ns))
    made.append(path)
    return made


class Copier:
    """Copies into one destination root; remembers inodes, so hard links stay hard links within it."""

    def __init__(self, root: str, options: CopyOptions, *, check: Callable[[], None]) -> None:
        self._root = root
        self._options = options
        self._check = check
        self._links: dict[tuple[int, int], str] = {}
        self._tree = Tree("")
        self._filter = CopyFilter("/", None, (), ())

    def copy(self, tree: Tree, source: str, target: str) -> None:
        """Copy the clean path `source` of `tree` to the image path `target` (a trailing `/` means: into it).

        Raises:
            ContentError: nothing at `source`, or the target cannot hold it.
        """
        options = self._options
        shown = target.rstrip("/") or "/"
        mode = 0o755 if options.mode is None else options.mode
        ensure = target if target.endswith("/") else os.path.dirname(target)
        made = self._parents(inside(self._root, ensure or "/"), mode)
        resolved = inside(tree.root, source, follow_last=options.follow)
        try:
            found = virtual.seen(resolved, os.lstat(resolved))
        except (FileNotFoundError, NotADirectoryError):
            from knarr.cache.missing import missing

            raise missing(tree.root, source, tree.hidden, name=tree.name) from None
        if tree.zero_owner and resolved == tree.root:
            found = _new_directory()
        where = inside(self._root, shown)
        is_dir = stat.S_ISDIR(found.st_mode)
        there = _stat_or_none(where)
        if there is not None and stat.S_ISDIR(there.st_mode) and not (is_dir and options.contents):
            where = inside(self._root, f"{shown}/{os.path.basename(source)}", follow_last=False)
        elif is_dir and there is not None and not stat.S_ISDIR(there.st_mode) and not options.replace:
            raise ContentError(f"cannot copy a directory to {shown}, which is a file in the image")
        needed = where if is_dir and options.contents and there is None else os.path.dirname(where)
        made += self._parents(needed, mode)
        self._tree = tree
        self._filter = CopyFilter(resolved[len(tree.root) :], tree.hidden, options.include, options.exclude)
        if is_dir:
            self._directory(resolved, "", where, found, top=True)
        else:
            self._leaf(resolved, where, found)
        if options.time_ns is not None:
            for path in reversed(made):
                os.utime(path, ns=(options.time_ns, options.time_ns))

    def _parents(self, path: str, mode: int) -> list[str]:
        try:
            return make_parents(path, mode, self._options.owner, self._options.time_ns)
        except (NotADirectoryError, FileExistsError) as error:
            place = str(error.filename or path)[len(self._root) :] or "/"
            raise ContentError(f"cannot copy to {place}: it is not a directory in the image") from None

    def _directory(self, source: str, relative: str, target: str, found: os.stat_result, *, top: bool) -> None:
        """Copy a directory that is itself wanted, with those of its contents that are."""
        self._check()
        created = self._make_directory(source, target, found, overwrite=not top)
        self._contents(source, relative, target, fresh=created)
        if created or not top:
            self._finish(source, target, found)
        elif top:
            # The target was there before: its own time stays that of the source, as BuildKit leaves it.
            self._times(target, found)

    def _make_directory(self, source: str, target: str, found: os.stat_result, *, overwrite: bool) -> bool:
        try:
            os.mkdir(target, 0o700)
            return True
        except FileExistsError:
            there = os.lstat(target)
        if not stat.S_ISDIR(there.st_mode):
            if not self._options.replace:
                raise ContentError(f"cannot copy to non-directory: {target[len(self._root) :]}") from None
            remove(target)
            os.mkdir(target, 0o700)
            return True
        if overwrite:
            virtual.chmod(target, stat.S_IMODE(found.st_mode))
        return False

    def _contents(self, source: str, relative: str, target: str, *, fresh: bool) -> bool:
        """Copy what is wanted of a directory; whether anything was."""
        chosen = self._filter
        copied = False
        with os.scandir(source) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for entry in entries:
            name = entry.name
            path = f"{relative}/{name}" if relative else name
            found = virtual.seen(entry.path, entry.stat(follow_symlinks=False))
            is_dir = stat.S_ISDIR(found.st_mode)
            if chosen.leaves_out and not chosen.keeps(path):
                if is_dir and chosen.may_keep_below(path):
                    copied |= self._sparse_directory(entry.path, path, f"{target}/{name}", found)
                continue
            copied = True
            if is_dir:
                self._directory(entry.path, path, f"{target}/{name}", found, top=False)
            else:
                self._leaf(entry.path, f"{target}/{name}", found, fresh=fresh)
        return copied

    def _sparse_directory(self, source: str, relative: str, target: str, found: os.stat_result) -> bool:
        """A directory that is not wanted itself: made only if something below it is, which is the answer.

        One that the source only hides is then like any other: a client sends it
        with its files. One that the patterns do not take is made beforehand, and
        has the time at which it was filled.
        """
        there = _lstat_or_none(target)
        if there is None:
            os.mkdir(target, 0o700)
        elif not stat.S_ISDIR(there.st_mode):
            if not self._wants_some(source, relative):
                return False
            # Never through a link: it may lead out of the image.
            raise ContentError(f"cannot copy to non-directory: {target[len(self._root) :]}")
        copied = self._contents(source, relative, target, fresh=there is None)
        if not copied:
            if there is None:
                os.rmdir(target)
        elif self._filter.selects(relative):
            self._finish(source, target, found)
        elif there is None:
            self._dress(source, target, found)
        else:
            virtual.chmod(target, stat.S_IMODE(found.st_mode))
        return copied

    def _wants_some(self, source: str, relative: str) -> bool:
        """Whether anything below a directory is to be copied."""
        with os.scandir(source) as entries:
            for entry in entries:
                path = f"{relative}/{entry.name}"
                if self._filter.keeps(path):
                    return True
                below = entry.is_dir(follow_symlinks=False) and self._filter.may_keep_below(path)
                if below and self._wants_some(entry.path, path):
                    return True
        return False

    def _leaf(self, source: str, target: str, found: os.stat_result, *, fresh: bool = False) -> None:
        self._check()
        if not fresh:
            self._clear(target)
        mode = found.st_mode
        if stat.S_ISREG(mode):
            if found.st_nlink > 1 and self._link(found, target):
                return
            copy_file(source, target, found.st_size)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), target)
        elif stat.S_ISSOCK(mode):
            os.mknod(target, stat.S_IFSOCK | stat.S_IMODE(mode))
        else:
            virtual.mknod(target, mode, found.st_rdev)
        self._finish(source, target, found)

    def _clear(self, target: str) -> None:
        there = _lstat_or_none(target)
        if there is None:
            return
        if stat.S_ISDIR(there.st_mode):
            if not self._options.replace:
                raise ContentError(f"cannot replace the directory {target[len(self._root) :]} with a file")
            remove(target)
        else:
            os.unlink(target)

    def _link(self, found: os.stat_result, target: str) -> bool:
        key = (found.st_dev, found.st_ino)
        first = self._links.get(key)
        if first is None:
            self._links[key] = target
            return False
        os.link(first, target, follow_symlinks=False)
        return True

    def _finish(self, source: str, target: str, found: os.stat_result) -> None:
        """What it is beside its content; times last, since everything moves them."""
        self._dress(source, target, found)
        self._times(target, found)

    def _dress(self, source: str, target: str, found: os.stat_result) -> None:
        """Owner, mode, xattrs: in this order, since chown clears setuid."""
        options = self._options
        is_link = stat.S_ISLNK(found.st_mode)
        owner = options.owner or ((0, 0) if self._tree.zero_owner else (found.st_uid, found.st_gid))
        virtual.chown(target, *owner)
        if not is_link:
            virtual.chmod(target, self._mode(found))
        if not self._tree.zero_owner:
            # As little as its owners go the context's attributes into an image: whence a browser had a file, say.
            copy_xattrs(source, target)

    def _mode(self, found: os.stat_result) -> int:
        options = self._options
        if options.mode_text:
            from knarr.ops.symbolicmode import apply_symbolic

            return apply_symbolic(options.mode_text, found.st_mode, is_dir=stat.S_ISDIR(found.st_mode))
        return stat.S_IMODE(found.st_mode) if options.mode is None else options.mode

    def _times(self, target: str, found: os.stat_result) -> None:
        stamp = self._options.time_ns
        times = (found.st_atime_ns, found.st_mtime_ns) if stamp is None else (stamp, stamp)
        os.utime(target, ns=times, follow_symlinks=False)


def remove(path: str) -> None:
    """Remove a file, a symlink (not its target) or a whole tree."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        import shutil

        shutil.rmtree(path)
    else:
        os.unlink(path)


def _new_directory() -> os.stat_result:
    """What the root of a client's context is: a builder makes it anew, with no mode or time of the client's."""
    now = time.time_ns()
    seconds = now // 10**9
    times = {"st_atime_ns": now, "st_mtime_ns": now, "st_ctime_ns": now}
    return os.stat_result((stat.S_IFDIR | 0o755, 0, 0, 1, 0, 0, 0, seconds, seconds, seconds), times)


def _lstat_or_none(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _stat_or_none(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def copy_all(
    tree: Tree,
    sources: Sequence[str],
    root: str,
    target: str,
    options: CopyOptions,
    *,
    check: Callable[[], None],
) -> None:
    """Copy several expanded sources to `target`.

    Raises:
        KnarrError: see `Copier.copy`.
    """
    copier = Copier(root, options, check=check)
    for source in sources:
        try:
            copier.copy(tree, source, target)
        except OSError as error:
            place = str(error.filename or source)
            for base in (tree.root, root):
                place = place.removeprefix(base)
            raise KnarrError(f"copy {source.lstrip('/') or '.'}: {place}: {error.strerror}") from error
