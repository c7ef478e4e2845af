"""The file an output is written to."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from knarr import disk
from knarr.errors import KnarrError, UsageError
from knarr.export.options import STDOUT


@contextmanager
def opened(dest: str) -> Iterator[BinaryIO]:
    """Standard output for `-`, else the file `dest`, which appears (or is replaced) only when it is complete.

    Raises:
        UsageError: standard output is a terminal.
        KnarrError: the file cannot be made.
    """
    if dest == STDOUT:
        if sys.stdout.isatty():
            raise UsageError("an archive does not belong on a terminal", hint="use dest=FILE, or redirect the output")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        if os.path.exists(dest) and not os.path.isfile(dest):  # a pipe or a device
            with open(dest, "wb", buffering=0) as file:
                yield file
            return
        with _appearing(dest) as file:
            yield file
    except OSError as error:
        hint = "free some space there, or write the result elsewhere" if disk.lacks_room(error) else ""
        raise KnarrError(f"{dest}: {error.strerror or error}", hint=hint) from error


@contextmanager
def _appearing(dest: str) -> Iterator[BinaryIO]:
    fresh = f"{dest}.{os.getpid()}.part"
    try:
        # Not synced: an archive can be made again, and waiting for the disk takes longer than making it.
        with open(fresh, "wb", buffering=0) as file:
            yield file
        os.replace(fresh, dest)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise
