"""What was found the same when it was looked at last: for each target, the digest there and at its source.

Only a memory: without the file everything is looked at once more, and nothing else
is lost. Safe from several threads; the file is replaced as a whole.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from knarr.errors import KnarrError
from knarr.record import record

_VERSION = 1


@record
class Known:
    """One target: `wish` says what was asked for, as a changed task makes another image of the same source."""

    source: str  # digest there
    target: str  # digest there; another one when the form was changed
    checked: float  # seconds since 1970: when everything that belongs to it was looked at
    wish: str = ""


class State:
    """The memory of one sync file."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: nothing is kept.

        Raises:
            KnarrError: the file is there and cannot be read.
        """
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}
        self._changed = False
        if path is not None:
            self._known = _read(path)

    def get(self, target: str) -> Known | None:
        return self._known.get(target)

    def set(self, target: str, known: Known) -> None:
        with self._lock:
            self._known[target] = known
            self._changed = True

    def forget(self, target: str) -> None:
        with self._lock:
            self._changed |= self._known.pop(target, None) is not None

    def save(self) -> None:
        """Write the file, if there is anything new.

        Raises:
            KnarrError: it cannot be written.
        """
        with self._lock:
            if self._path is None or not self._changed:
                return
            images = {
                name: [k.source, k.target, round(k.checked, 3), k.wish] for name, k in sorted(self._known.items())
            }
            self._changed = False
        text = json.dumps({"version": _VERSION, "saved": time.time(), "images": images}, indent=0)
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            os.makedirs(self._path.parent, exist_ok=True)
            fresh.write_text(text, encoding="utf-8")
            os.replace(fresh, self._path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(fresh)
            raise KnarrError(f"state file {self._path}: {error.strerror}") from error


def _read(path: Path) -> dict[str, Known]:
    try:
        data: Any = json.loads(path.read_bytes())
        if data["version"] != _VERSION:
            return {}
        return {
            str(name): Known(str(a), str(b), float(at), str(wish)) for name, (a, b, at, wish) in data["images"].items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}  # damaged: what it remembered is found anew
    except OSError as error:
        raise KnarrError(f"state file {path}: {error.strerror}", hint="name another one with --state") from error
