"""What became of a container: written by its monitor, read by everybody."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from knarr.record import record

LOST = 255  # the exit status of a container whose end nobody saw


@record
class State:
    """Where a container is in its life; times in ns since the epoch, 0: not yet."""

    status: str = "created"  # created, running, exited
    pid: int = 0
    started_ns: int = 0
    finished_ns: int = 0
    exit_status: int = 0
    out_of_memory: bool = False
    error: str = ""
    addresses: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()  # as they were given, the machine's choice included


def read(file: Path) -> State:
    """The state in `file`; that of a new container where there is none, or none that can be read."""
    try:
        told = json.loads(file.read_bytes())
        known: dict[str, Any] = {name: told[name] for name in State.__annotations__ if name in told}
        return State(**{**known, **{name: tuple(value) for name, value in known.items() if isinstance(value, list)}})
    except (OSError, ValueError, TypeError, AttributeError):
        return State()


def write(file: Path, state: State) -> None:
    """Replace the file, so that nobody ever reads half of it."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    told = {name: getattr(state, name) for name in State.__annotations__}
    draft.write_text(json.dumps(told))
    os.replace(draft, file)
