"""The builds under way, by the reference that their client chose.

with builds.begin(ref) as build:
    engine.open(session, build.log, scope=build.scope) …
builds.log(ref, wait_s=6)       # another call of the client's asks for its progress, perhaps earlier
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.buildkit.status import StatusLog
from knarr.errors import KnarrError, UsageError
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.buildkit.gateway import Bridge
    from knarr.ops.steptrace import StepTrace
    from knarr.spec.descriptor import Descriptor

_REMEMBERED = 64  # logs of builds that have ended, for clients whose question comes late


class Build:
    """One build: cancel its `scope` to end it."""

    def __init__(self, ref: str, log: StatusLog) -> None:
        self.ref = ref
        self.log = log
        self.scope = Scope()
        self.trace: StepTrace | None = None  # how its steps tell of themselves
        self.images: dict[int, Descriptor] = {}  # what its outputs made, by their numbers
        self.provenance: dict[str, bytes] = {}  # of its results, by platform; "" for the only one
        self._bridged = threading.Condition()
        self._bridge: Bridge | None = None

    @contextmanager
    def bridged(self, bridge: Bridge) -> Iterator[None]:
        """While in the block, the client runs the frontend and asks `bridge`."""
        with self._bridged:
            self._bridge = bridge
            self._bridged.notify_all()
        try:
            yield
        finally:
            with self._bridged:
                self._bridge = None

    def bridge(self, *, wait_s: float) -> Bridge | None:
        """The gateway for the client's own frontend, once the build has come so far."""
        with self._bridged:
            self._bridged.wait_for(lambda: self._bridge is not None or self.scope.cancelled, wait_s)
            return self._bridge


class Builds:
    """All of them. Safe from several threads."""

    def __init__(self, directory: Path) -> None:
        """Logs are written below `directory`, which is this process's own."""
        self._directory = directory
        self._changed = threading.Condition()
        self._active: dict[str, Build] = {}
        self._logs: dict[str, StatusLog] = {}  # of active builds and of those that ended last
        self._refusal: KnarrError | None = None
        self._count = 0

    @contextmanager
    def begin(self, ref: str) -> Iterator[Build]:
        """A new build for the time of the block.

        Raises:
            KnarrError: one of this name is under way, or the daemon takes no more.
        """
        if not ref:
            raise UsageError("a build needs a reference of its client's choice")
        with self._changed:
            if self._refusal is not None:
                raise self._refusal
            if ref in self._active:
                raise KnarrError(f"build {ref} already exists")
            self._count += 1
            build = Build(ref, StatusLog(self._directory / f"{self._count}.status"))
            self._active[ref] = build
            self._logs[ref] = build.log
            self._changed.notify_all()
        try:
            yield build
        finally:
            build.log.close()
            with self._changed:
                del self._active[ref]
                forgotten = self._overdue()
                self._changed.notify_all()
            for log in forgotten:
                log.remove()

    def _overdue(self) -> list[StatusLog]:
        ended = [ref for ref in self._logs if ref not in self._active]
        return [self._logs.pop(ref) for ref in ended[: max(0, len(ended) - _REMEMBERED)]]

    def log(self, ref: str, *, wait_s: float = 0.0) -> StatusLog | None:
        """What build `ref` tells and told, waiting up to `wait_s` for it to begin; None: it is not known."""
        with self._changed:
            self._changed.wait_for(lambda: ref in self._logs, wait_s)
            return self._logs.get(ref)

    def get(self, ref: str, *, wait_s: float = 0.0) -> Build | None:
        """The build `ref`, if it is under way."""
        with self._changed:
            self._changed.wait_for(lambda: ref in self._active, wait_s)
            return self._active.get(ref)

    @property
    def count(self) -> int:
        """How many are under way."""
        with self._changed:
            return len(self._active)

    def refuse(self, why: KnarrError) -> None:
        """Begin no more builds."""
        with self._changed:
            self._refusal = why

    def wait(self, timeout_s: float) -> bool:
        """Whether all builds have ended within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._active, timeout_s)

    def cancel(self) -> None:
        """End all builds that are under way."""
        with self._changed:
            active = list(self._active.values())
        for build in active:
            build.scope.cancel()
