"""What a job has told of its steps: several runs of the solver may meet the same one."""

from __future__ import annotations

import threading

from knarr.spec.digest import Digest


class Shown:
    """Which steps of a job were told to have begun and to have ended, each once. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: set[Digest] = set()
        self._ended: set[Digest] = set()

    def begins(self, vertex: Digest) -> bool:
        """Whether this is the first that is told of `vertex`."""
        return self._is_first(vertex, self._begun)

    def ends(self, vertex: Digest) -> bool:
        """Whether this is the first that is told of the end of `vertex`."""
        return self._is_first(vertex, self._ended)

    def has_begun(self, vertex: Digest) -> bool:
        return vertex in self._begun

    def _is_first(self, vertex: Digest, told: set[Digest]) -> bool:
        with self._lock:
            if vertex in told:
                return False
            told.add(vertex)
            return True
