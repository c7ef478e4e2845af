"""Whether the kernel killed processes of a container because it was at its memory limit.

The runtime removes the container's group before anybody can ask it. In version 2 the
group above counts along, so the container gets one more group above its own. In version 1
an event descriptor counts: one for each time the limit was hit, one when the group goes.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from types import TracebackType

from knarr.runtime import cgroups

_TREE = f"{cgroups.ROOT}/memory"  # of version 1
_PATIENCE_S = 0.2  # for the kernel to tell that a group has gone: it does so a moment later


class Watch:
    """Watches over the group of one container: `with Watch(group) as watch: …; watch.hit()`."""

    def __init__(self, group: str) -> None:
        """`group`: of version 2, the one above the container's; of version 1 its own, which is made here."""
        self._group = group
        self._counter = -1

    def __enter__(self) -> Watch:
        if not cgroups.is_unified():
            with suppress(OSError):  # then nothing is known, and nothing said
                self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._counter >= 0:
            os.close(self._counter)
            self._counter = -1

    def hit(self) -> bool:
        """Whether the limit was hit so that the kernel killed; to be asked when the container has ended."""
        if self._counter < 0:
            return _counted(f"{cgroups.ROOT}{self._group}/memory.events") > 0
        count, deadline = 0, time.monotonic() + _PATIENCE_S
        has_gone = not os.path.exists(_TREE + self._group)
        while count <= has_gone and time.monotonic() < deadline:
            with suppress(BlockingIOError):
                count += os.eventfd_read(self._counter)
            if not has_gone:
                break
            time.sleep(0.005)
        return count > has_gone

    def _listen(self) -> None:
        os.makedirs(_TREE + self._group, exist_ok=True)
        control = os.open(f"{_TREE}{self._group}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        counter = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            with open(f"{_TREE}{self._group}/cgroup.event_control", "w", encoding="ascii") as file:
                file.write(f"{counter} {control}")
        except OSError:
            os.close(counter)
            raise
        finally:
            os.close(control)
        self._counter = counter


def _counted(path: str) -> int:
    try:
        with open(path, encoding="ascii") as table:
            return next((int(line.split()[1]) for line in table if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
