"""Wait where a registry has said that few pulls are left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from knarr.scope import Scope
from knarr.sync.task import Task


class Left(Protocol):
    """What a registry says of its limit; -1: it does not say."""

    @property
    def remaining(self) -> int: ...


class Quotas:
    """What is left by host, as `quotas` tells at each call; `host` is the name of an endpoint."""

    def __init__(
        self,
        quotas: Callable[[], Mapping[str, Left]],
        scope: Scope,
        *,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        """`tell` is told, in words, of every wait."""
        self._quotas, self._scope, self._tell = quotas, scope, tell

    def wait(self, host: str, task: Task, ask: Callable[[], object]) -> None:
        """Until the registry has as much left as the task wants; at once where it says nothing.

        `ask` asks the registry something that costs no pull, so that it says anew what is left.

        Raises:
            Cancelled; RegistryError: of `ask`.
        """
        if not task.quota_min:
            return
        while (left := self._left(host)) is not None and left < task.quota_min:
            if self._tell is not None:
                self._tell(f"{host}: {left} pulls left, fewer than {task.quota_min}: waiting {task.quota_wait_s:.0f} s")
            self._scope.sleep(task.quota_wait_s)
            ask()

    def _left(self, host: str) -> int | None:
        names = (host, "registry-1.docker.io") if host == "docker.io" else (host,)
        found = self._quotas()
        for name in names:
            if name in found and found[name].remaining >= 0:
                return found[name].remaining
        return None
