"""`type=local`: a result's files in a directory of this machine, over what is there.

They belong to this user, whoever owned them in the image. Modes, times, symlinks,
hard links and attributes stay. A symlink in the directory is never followed: where
the image has a directory, it is replaced by one, so nothing is written outside.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from knarr import virtual
from knarr.builder import Export
from knarr.errors import KnarrError
from knarr.export.clock import SECOND
from knarr.export.context import epoch_of
from knarr.export.leftovers import check_deletable, remove_leftovers
from knarr.export.options import tree_options
from knarr.export.parts import PLATFORM_MODE, mounted_parts
from knarr.export.vertex import Vertex
from knarr.layer.parents import remove_tree
from knarr.layer.samefile import in_tree, kept_xattrs
from knarr.streams import CHUNK

if TYPE_CHECKING:
    from knarr.export.context import ExportContext, Result
    from knarr.scope import Scope


def export_local(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Write the files; with `mode=delete`, remove everything else from the directory then."""
    options = tree_options(export)
    epoch = epoch_of(options.epoch, context, *result.frontend.results)
    dest = os.path.realpath(options.dest)
    if options.delete:
        check_deletable(dest, {os.fspath(context.settings.root): "knarr's own directory"})
    with (
        Vertex(context.sink, "exporting to client directory") as vertex,
        mounted_parts(result, options, context) as parts,
    ):
        written: set[str] | None = set() if options.delete else None
        for part in parts:
            writer = _Writer(context.scope, epoch, written)
            with vertex.phase(f"copying files {part.platform}"):
                writer.run(part.root, dest, part.directory, part.more)
        if written is not None:
            with vertex.phase("removing what is not in the result"):
                remove_leftovers(dest, written, check=context.scope.check)
    return {}


def write_tree(source: str, dest: str, *, scope: Scope, delete: bool = False) -> None:
    """Put what is in the directory `source` into `dest`, as `export_local` does; with `delete`, nothing else stays.

    Raises:
        KnarrError: it cannot be written, or must not be emptied.
    """
    dest = os.path.realpath(dest)
    written: set[str] | None = set() if delete else None
    _Writer(scope, None, written).run(source, dest, "", {})
    if written is not None:
        remove_leftovers(dest, written, check=scope.check)


class _Writer:
    """Copies one tree. `epoch` (seconds) replaces all times.

    Every path it writes is added to `written`; None: nobody asks, and a directory
    in the place of a file is not removed, since somebody's files may be in it.
    """

    def __init__(self, scope: Scope, epoch: int | None, written: set[str] | None) -> None:
        self._scope = scope
        self._epoch_ns = None if epoch is None else epoch * SECOND
        self._written = written
        self._links: dict[tuple[int, int], str] = {}  # inode in the tree → the path it was written to

    def run(self, source: str, dest: str, directory: str, more: Mapping[str, str]) -> None:
        """Copy `source` and the files `more` into `dest`, or into `directory` there, which is made for it."""
        target = os.path.join(dest, directory) if directory else dest
        try:
            os.makedirs(dest, exist_ok=True)
            if directory:
                self._make_directory(target)
            self._directory(source, target)
            for name, place in more.items():
                self._other(place, f"{target}/{name}", os.lstat(place))
            if directory:  # like BuildKit's it has no time but the epoch
                os.chmod(target, PLATFORM_MODE)
                os.utime(target, ns=(self._epoch_ns or 0, self._epoch_ns or 0))
        except OSError as error:
            # With two names, the second is the one in the destination.
            place = error.filename2 or error.filename or target
            raise KnarrError(
                f"{place}: {error.strerror or error}", hint="choose a directory that you can write, with room in it"
            ) from error

    def _directory(self, source: str, target: str) -> None:
        """Everything below `source`, with a stack: trees may be deeper than Python's frames."""
        made: list[tuple[str, os.stat_result]] = []
        todo = [(source, target)]
        while todo:
            self._scope.check()
            source, target = todo.pop()
            with os.scandir(source) as entries:
                for entry in entries:
                    status = virtual.seen(entry.path, entry.stat(follow_symlinks=False))
                    path = f"{target}/{entry.name}"
                    if stat.S_ISDIR(status.st_mode):
                        self._make_directory(path)
                        made.append((path, status))
                        _copy_attributes(entry.path, path)
                        todo.append((entry.path, path))
                    else:
                        self._other(entry.path, path, status)
        # Modes and times of directories go last: filling one needs its write bit, and moves its time.
        for path, status in reversed(made):
            os.chmod(path, stat.S_IMODE(status.st_mode))
            os.utime(path, ns=self._times(status))

    def _make_directory(self, path: str) -> None:
        self._note(path)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(path)
                os.mkdir(path, 0o700)
            elif found.st_mode & 0o700 != 0o700:
                os.chmod(path, 0o700)

    def _other(self, source: str, target: str, status: os.stat_result) -> None:
        self._note(target)
        self._clear(target)
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), target)
            if first is not target:
                os.link(first, target, follow_symlinks=False)
                return
        mode = status.st_mode
        if stat.S_ISREG(mode):
            self._file(source, target, status)
            return
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), target)
        elif stat.S_ISFIFO(mode):
            os.mkfifo(target, 0o600)
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            os.mknod(target, stat.S_IFMT(mode) | 0o600, status.st_rdev)
        else:
            return  # a socket means nothing elsewhere
        if not stat.S_ISLNK(mode):
            os.chmod(target, stat.S_IMODE(mode))
        os.utime(target, ns=self._times(status), follow_symlinks=False)

    def _note(self, path: str) -> None:
        if self._written is not None:
            self._written.add(path)

    def _clear(self, path: str) -> None:
        """Make room for a file.

        Raises:
            KnarrError: there is a directory, and what is in it may be somebody's.
        """
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError) as error:
            if not os.path.isdir(path) or os.path.islink(path):
                raise
            if self._written is None:
                raise KnarrError(
                    f"{path} is a directory here and a file in the result", hint="move it away, or choose another dest"
                ) from error
            remove_tree(path)

    def _file(self, source: str, target: str, status: os.stat_result) -> None:
        inward = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            outward = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                self._copy(inward, outward)
                _copy_attributes(inward, outward)
                os.fchmod(outward, stat.S_IMODE(status.st_mode))
                os.utime(outward, ns=self._times(status))
            finally:
                os.close(outward)
        finally:
            os.close(inward)

    def _copy(self, inward: int, outward: int) -> None:
        while os.sendfile(outward, inward, None, CHUNK):
            self._scope.check()

    def _times(self, status: os.stat_result) -> tuple[int, int]:
        time_ns = status.st_mtime_ns if self._epoch_ns is None else self._epoch_ns
        return time_ns, time_ns


def _copy_attributes(source: str | int, target: str | int) -> None:
    """Give `target` the extended attributes of `source` that its file system takes."""
    for name, value in kept_xattrs(source, in_tree).items():
        with contextlib.suppress(OSError):
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
