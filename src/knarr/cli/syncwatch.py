"""`knarr sync --watch`: a process that stays, runs tasks when they are due, and follows changes of its file."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from knarr.errors import Cancelled, KnarrError

if TYPE_CHECKING:
    from knarr.cli.flags import Parsed
    from knarr.cli.transfer import Transfer
    from knarr.sync.task import SyncFile, Task

_TICK_S = 1.0  # how soon a change of the file is noticed


def watch(world: Transfer, given: Parsed, file: SyncFile, read: Callable[[], SyncFile]) -> None:
    """Until this process is told to end.

    Raises:
        KnarrError: metrics cannot be served.
    """
    from knarr.sync.metrics import Metrics, MetricsServer

    metrics = Metrics()
    with ExitStack() as stack:
        if given.text("metrics"):
            server = stack.enter_context(MetricsServer(given.text("metrics"), metrics))
            print(f"metrics at port {server.port}", file=sys.stderr)
        source = _Source(given.words[0], file, read, metrics.reloaded)
        due = dict.fromkeys(file.tasks, 0.0)  # everything once at the start
        while not world.scope.cancelled:
            if source.changed():
                due = _after_reload(due, source.file.tasks)
            now = time.time()
            for task in [task for task, at in due.items() if at <= now]:
                _run(world, given, source.file, task, metrics.ran)
                due[task] = _next(task)
            try:
                world.scope.sleep(_TICK_S)
            except Cancelled:
                return


def _run(world: Transfer, given: Parsed, file: SyncFile, task: Task, ran: Callable[..., object]) -> None:
    """One task, whose failures are told and end nothing."""
    from knarr.cli.syncreport import Printer
    from knarr.cli.syncrun import runner
    from knarr.sync.row import FAILED, Row

    printer = Printer(given)
    began = time.monotonic()
    rows: tuple[Row, ...]
    try:
        with runner(world, given, file, printer) as made:
            rows = made.run([task])
    except KnarrError as error:
        print(error.render(), file=sys.stderr)
        rows = (Row(task.source, ", ".join(task.targets), FAILED, error=error.message),)
    ran(task.source, rows, time.monotonic() - began)
    printer.finish(rows)
    sys.stdout.flush()


def _next(task: Task) -> float:
    from knarr.sync.schedule import next_due

    return next_due(task.cron, task.every_s, time.time())


def _after_reload(due: dict[Task, float], tasks: tuple[Task, ...]) -> dict[Task, float]:
    """Tasks that stayed as they were keep their time; new ones are due now."""
    return {task: due.get(task, 0.0) for task in tasks}


class _Source:
    """The file as it was read last without a mistake. SIGHUP has it read again, and so does a change."""

    def __init__(self, path: str, file: SyncFile, read: Callable[[], SyncFile], told: Callable[..., object]) -> None:
        self.file = file
        self._path, self._read, self._told = path, read, told
        self._stamp = _stamp(path)
        self._asked = False
        signal.signal(signal.SIGHUP, self._hangup)

    def _hangup(self, signum: int, frame: object) -> None:
        self._asked = True

    def changed(self) -> bool:
        """Whether there is another file now; a mistake in it is told, and the one before stays."""
        stamp = _stamp(self._path)
        if stamp == self._stamp and not self._asked:
            return False
        self._stamp, self._asked = stamp, False
        try:
            self.file = self._read()
        except KnarrError as error:
            print(error.render(), file=sys.stderr)
            print("the file as it was before stays in force", file=sys.stderr)
            self._told(ok=False)
            return False
        print(f"{self._path}: read again, {len(self.file.tasks)} tasks", file=sys.stderr)
        self._told(ok=True)
        return True


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        known = os.stat(path)
    except OSError:
        return (0, 0, 0)  # while an editor replaces it
    return known.st_mtime_ns, known.st_size, known.st_ino
