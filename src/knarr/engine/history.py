"""What the last build did, step by step, and why a step of it was not in the cache.

`Diary` is kept by the drive while it works: for each executed step the ingredients
of its keys, in the cache store, and at the end a page about the build, in
`last-build.json`. `why` reads both.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import NotFound, UsageError
from knarr.solver.explain import Input, explain, ingredients, nearest

if TYPE_CHECKING:
    from knarr.cache.store import CacheStore
    from knarr.llb.ops import Vertex

_FILE = "last-build.json"


class Diary:
    """The notes of one build. Safe from several threads."""

    def __init__(self, root: Path, cache: CacheStore) -> None:
        self._root = root
        self._cache = cache
        self._lock = threading.Lock()
        self._steps: dict[str, dict[str, object]] = {}

    def cached(self, step: str) -> None:
        with self._lock:
            self._steps.setdefault(step, {"cached": True})

    def executed(self, step: str, vertex: Vertex, inputs: Sequence[Input]) -> None:
        """Keep what this run of `step` was made of."""
        now = ingredients(vertex, inputs)
        before = nearest(now, self._cache.recall(step))
        reasons = ["the cache was switched off"] if vertex.metadata.ignore_cache else explain(now, before)
        self._cache.remember(step, now)
        with self._lock:
            self._steps[step] = {"cached": False, "why": reasons}

    def write(self, name: str) -> None:
        """Put the page where `why` finds it."""
        page = {"name": name, "at": time.time(), "steps": self._steps}
        fresh = self._root / f"{_FILE}.{os.getpid()}"
        fresh.write_text(json.dumps(page))
        os.replace(fresh, self._root / _FILE)

    def page_when_unchanged(self, name: str) -> bytes:
        """The page of the same build made again: every step in the cache."""
        return json.dumps({"name": name, "steps": {step: {"cached": True} for step in self.steps}}).encode()

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps' names, in the order in which they ended."""
        with self._lock:
            return tuple(self._steps)


def why(root: Path, step: str) -> tuple[str, list[str]]:
    """(the step's full name, the lines that say why it ran) for the last build's step that `step` names.

    `step` may be any part of the name; lines are empty when the step was in the cache.

    Raises:
        NotFound: there was no build yet, or no step of it is called so.
        UsageError: several are.
    """
    try:
        page = json.loads((root / _FILE).read_text())
    except FileNotFoundError:
        raise NotFound("no build has run on this state directory yet") from None
    steps: dict[str, dict[str, object]] = page["steps"]
    if step in steps:
        names = [step]
    else:
        names = [name for name in steps if step.lower() in name.lower()]
    if not names:
        listed = "\n  ".join(steps)
        raise NotFound(f"the last build has no step {step!r}", hint=f"its steps are:\n  {listed}")
    if len(names) > 1:
        raise UsageError(f"{step!r} is part of {len(names)} steps", hint="it could be:\n  " + "\n  ".join(names))
    found = steps[names[0]]
    lines = found.get("why", [])
    if found["cached"] or not isinstance(lines, list):
        return names[0], []
    return names[0], [str(line) for line in lines] or ["its result was no longer there: it was pruned or removed"]
