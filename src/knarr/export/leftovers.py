"""`mode=delete`: what a directory has beside the result is removed from it, and nothing else ever.

Three fences: directories that nobody gives away are refused; no symlink is followed
and nothing that is mounted is touched; and everything is looked over before the
first file goes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping

from knarr.errors import KnarrError, UsageError
from knarr.layer.parents import remove_tree


def check_deletable(dest: str, kept: Mapping[str, str]) -> None:
    """See that `dest` may be emptied; `kept` are the directories to be spared, with what each of them is.

    Raises:
        UsageError: it belongs to the system, is or contains one of them, or lies in knarr's own.
    """
    real = os.path.realpath(dest)
    if real.count("/") < 2:
        raise _refused(dest, f"{real} is part of this system")
    for directory, what in kept.items():
        place = os.path.realpath(directory)
        if place == real or place.startswith(real + "/"):
            raise _refused(dest, f"{directory}, {what}, {'is that' if place == real else 'lies in it'}")


def _refused(dest: str, why: str) -> UsageError:
    return UsageError(
        f"type=local,mode=delete: dest={dest} will not be emptied: {why}", hint="give a directory for this result only"
    )


def remove_leftovers(dest: str, written: set[str], *, check: Callable[[], None]) -> None:
    """Remove everything below the directory `dest`, a real path, that is not in `written`.

    Raises:
        KnarrError: something cannot be removed, or is mounted there (nothing is removed then).
    """
    try:
        mounts = [place for place in _mounts() if place.startswith(dest + "/")]
        doomed = list(_leftovers(dest, written, check))
        for path in doomed:
            for mount in mounts:
                if mount == path or mount.startswith(path + "/"):
                    raise KnarrError(
                        f"{mount} is mounted there and not in the result: {path} is not removed",
                        hint="unmount it, or choose another dest",
                    )
        for path in doomed:
            check()
            if os.path.isdir(path) and not os.path.islink(path):
                remove_tree(path)
            else:
                os.unlink(path)
    except OSError as error:
        raise KnarrError(f"{error.filename or dest}: {error.strerror}", hint="see who owns it") from error


def _leftovers(dest: str, written: set[str], check: Callable[[], None]) -> Iterator[str]:
    """The topmost paths that are to go."""
    todo = [dest]
    while todo:
        check()
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.path not in written:
                    yield entry.path
                elif entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)


def _mounts() -> list[str]:
    """Where something is mounted, as this process sees it."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ")[4]) for line in table]
