"""Hold a directory, alone among the processes of one kind; who comes second is told who has it.

with possession(root / "daemon.lock", "daemon", what="state directory", shown=("unix:///run/a.sock",), hint="…"):
    ...
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from knarr.errors import KnarrError, UsageError


@contextlib.contextmanager
def possession(lock: Path, kind: str, *, what: str, shown: Sequence[str], hint: str) -> Iterator[None]:
    """Hold the lock file `lock`, whose directory is made; the kernel drops it when the process ends, however it ends.

    `shown` is what others are told about the holder besides its process.

    Raises:
        UsageError: another process holds it; the message says which.
        KnarrError: it cannot be made or written.
    """
    root = lock.parent
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o711)
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise KnarrError(f"{error.filename or root}: {error.strerror}", hint=hint) from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{root}: another {kind} has this {what}: {_holder(held)}", hint=f"stop it, or {hint}"
            ) from None
        os.ftruncate(held, 0)
        os.pwrite(held, json.dumps({"pid": os.getpid(), "addresses": list(shown)}).encode(), 0)
        yield
    finally:
        os.close(held)


def _holder(held: int) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        about = json.loads(os.pread(held, 4096, 0))
        return f"process {about['pid']}, {', '.join(about['addresses'])}"
    return "a process that is just starting"
