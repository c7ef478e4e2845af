"""`type=local`: a result's files in a directory of this machine, over what is there.

They belong to this user, whoever owned them in the image. Modes, times, symlinks
and hard links stay. A symlink in the directory is never followed: where the image
has a directory, it is replaced by one, so nothing is written outside.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Any

from knarr.builder import Export
from knarr.errors import KnarrError, UsageError
from knarr.export.clock import SECOND
from knarr.export.options import tree_options
from knarr.export.parts import parts_of
from knarr.export.vertex import Vertex
from knarr.streams import CHUNK

if TYPE_CHECKING:
    from knarr.export.context import ExportContext, Result
    from knarr.scope import Scope


def export_local(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Write the files."""
    options = tree_options(export)
    epoch = options.epoch if options.epoch is not None else context.settings.source_date_epoch
    with Vertex(context.sink, "exporting to client directory") as vertex:
        parts = parts_of(result, options, context)
        together = _Together() if len({part.directory for part in parts}) < len(parts) else None
        for part in parts:
            target = os.path.join(options.dest, part.directory)
            writer = _Writer(context.scope, epoch, together, str(part.platform))
            with vertex.phase(f"copying files {part.platform}"), result.trees.mounted(part.tree) as tree:
                writer.run(os.fspath(tree), target)
    return {}


class _Together:
    """Which platform a file came from, when all go to one directory: two must not claim the same one."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def claim(self, path: str, platform: str) -> None:
        owner = self._owners.setdefault(path, platform)
        if owner != platform:
            raise UsageError(
                f"{path} is in the results of {owner} and of {platform}", hint="leave out platform-split=false"
            )


class _Writer:
    """Copies one tree. `epoch` (seconds) replaces all times."""

    def __init__(self, scope: Scope, epoch: int | None, together: _Together | None, platform: str) -> None:
        self._scope = scope
        self._epoch_ns = None if epoch is None else epoch * SECOND
        self._together = together
        self._platform = platform
        self._links: dict[tuple[int, int], str] = {}  # inode in the tree → the path it was written to

    def run(self, source: str, target: str) -> None:
        try:
            os.makedirs(target, exist_ok=True)
            self._directory(source, target)
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
                    status = entry.stat(follow_symlinks=False)
                    path = f"{target}/{entry.name}"
                    if stat.S_ISDIR(status.st_mode):
                        self._make_directory(path)
                        made.append((path, status))
                        todo.append((entry.path, path))
                    else:
                        self._other(entry.path, path, status)
        # Modes and times of directories go last: filling one needs its write bit, and moves its time.
        for path, status in reversed(made):
            os.chmod(path, stat.S_IMODE(status.st_mode))
            os.utime(path, ns=self._times(status))

    def _make_directory(self, path: str) -> None:
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
        if self._together is not None:
            self._together.claim(target, self._platform)
        _clear(target)
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

    def _file(self, source: str, target: str, status: os.stat_result) -> None:
        inward = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            outward = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                self._copy(inward, outward)
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


def _clear(path: str) -> None:
    """Make room for a file. A directory in its place is not removed: somebody's files may be in it.

    Raises:
        KnarrError: there is a directory.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as error:
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                raise KnarrError(
                    f"{path} is a directory here and a file in the result", hint="move it away, or choose another dest"
                ) from error
        raise
