"""What the last build did, step by step, and why a step of it was not in the cache.

`Diary` is kept by the drive while it works: for each executed step the ingredients
of its keys, in the cache store, and at the end a page about the build, in
`last-build.json`, which `why` reads.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr.errors import NotFound
from knarr.solver.explain import Input, explain, ingredients, is_edited, nearest, place_of, steps_that_differ

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
        self._began_ns = time.time_ns()  # what other platforms do in this build is no earlier run
        self._names: Callable[[], Iterable[str]] = tuple

    def begin(self, names: Callable[[], Iterable[str]]) -> None:
        """From here on steps of a graph end; `names` gives those of all."""
        self._names = names

    def cached(self, step: str) -> None:
        with self._lock:
            self._steps.setdefault(step, {"cached": True})

    def executed(self, step: str, vertex: Vertex, inputs: Sequence[Input]) -> None:
        """Keep what this run of `step` was made of."""
        now = ingredients(vertex, inputs)
        self._tell(step, vertex, inputs, now)
        self._cache.remember(_memory_of(step), now)

    def failed(self, step: str, vertex: Vertex, inputs: Sequence[Input]) -> None:
        """Keep why `step` ran. What comes next is compared with the run before: a failed one leaves no result."""
        self._tell(step, vertex, inputs, ingredients(vertex, inputs), failed=True)

    def _tell(
        self, step: str, vertex: Vertex, inputs: Sequence[Input], now: Mapping[str, str], *, failed: bool = False
    ) -> None:
        if vertex.metadata.ignore_cache:
            reasons, after = ["the cache was switched off"], []
        else:
            before = self._nearest(step, now)
            reasons, after = explain(now, before, inputs), steps_that_differ(now, before, inputs)
        with self._lock:
            self._steps[step] = {"cached": False, "why": reasons, "after": after, "failed": failed}

    def _nearest(self, step: str, now: Mapping[str, str]) -> Mapping[str, str] | None:
        """The nearest earlier run of `step`; where it never ran, of the line that it seems to have been before."""
        name = _memory_of(step)
        before = nearest(now, self._cache.recall(name, before_ns=self._began_ns))
        if before is not None:
            return before
        end_of_keyword = name.find(" ", name.index("\t")) + 1
        if not end_of_keyword:
            return None
        still_there = set(map(_memory_of, self._names()))
        runs = self._cache.recall_like(name[:end_of_keyword], before_ns=self._began_ns)
        edited = nearest(now, (run for step, run in runs if step not in still_there))
        return edited if edited is not None and is_edited(now, edited) else None

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


def why(root: Path, step: str = "") -> list[tuple[str, list[str]]]:
    """Of the last build's steps that `step` names: the full name, and the lines that say why each ran.

    `step` may be any part of a name. Without it: the steps that ran for a reason of their
    own, and not just because one before them did. Empty if every step was in the cache.

    Raises:
        NotFound: there was no build yet, or no step of it is called so.
    """
    try:
        page = json.loads((root / _FILE).read_text())
    except FileNotFoundError:
        raise NotFound("no build has run on this state directory yet") from None
    steps: dict[str, dict[str, Any]] = page["steps"]
    if not step:
        return [(name, _reasons(found)) for name, found in steps.items() if not found["cached"] and _is_root(found)]
    names = [step] if step in steps else [name for name in steps if step.lower() in name.lower()]
    if not names:
        listed = "\n  ".join(steps)
        raise NotFound(f"the last build has no step {step!r}", hint=f"its steps are:\n  {listed}")
    return [(name, _told(steps, name)) for name in names]


def _told(steps: Mapping[str, dict[str, Any]], name: str) -> list[str]:
    """The reasons of one step, and behind them those of the steps that began it."""
    found = steps[name]
    if found["cached"]:
        return ["it was in the cache"]
    lines = _reasons(found)
    for earlier in dict.fromkeys(_begun_by(steps, name)):
        lines += [f"{earlier} ran:", *(f"  {line}" for line in _reasons(steps[earlier]))]
    return lines


def _begun_by(steps: Mapping[str, dict[str, Any]], name: str) -> Iterator[str]:
    """The steps before `name` that ran for a reason of their own, without those between that ran because of them."""
    seen, open_ = {name}, [name]
    while open_:
        found = steps[open_.pop()]
        for earlier in found.get("after", ()):
            if earlier in seen or earlier not in steps or steps[earlier]["cached"]:
                continue
            seen.add(earlier)
            if _is_root(steps[earlier]):
                yield earlier
            else:
                open_.append(earlier)


def _is_root(found: dict[str, Any]) -> bool:
    return not found.get("after") or found.get("failed", False) or len(_reasons(found)) > len(found["after"])


def _reasons(found: dict[str, Any]) -> list[str]:
    told = [str(line) for line in found.get("why", ())]
    if not told:
        told = ["its result was no longer there: it was pruned or removed"]
        if found.get("failed"):
            told = ["nothing it reads has changed since it last succeeded; its result was no longer there"]
    return [*told, "it failed"] if found.get("failed") else told


def _memory_of(step: str) -> str:
    """The name under which runs of a step are kept: without its number, which changes with the steps around it."""
    _, stage, text = place_of(step)
    return f"{stage}\t{text}"
