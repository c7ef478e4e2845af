"""A container that runs, for those who act on it meanwhile: further processes, signals.

live = Live()
scope.start(runtime.run, spec, output=write, scope=scope, live=live)
live.run(ProcessSpec(spec.rootfs, ("/bin/ps",)), output=write, scope=scope)
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from signal import SIGKILL

from knarr.errors import RuntimeFailed
from knarr.runtime import bundle, child
from knarr.runtime.oci import Program
from knarr.runtime.process import Output, ProcessSpec, Stdio
from knarr.runtime.users import resolve_user
from knarr.scope import Scope

_AGAIN_S = 0.005  # between two looks whether the container is there
_NO_STDIO = Stdio()


class Process:
    """One process of a container, as the host sees it: by the number in a file that its runtime writes."""

    def __init__(self, pid_file: str) -> None:
        self._pid_file = pid_file

    @property
    def pid(self) -> int:
        """Its number; 0 when it has not begun."""
        try:
            return self._pid()
        except (OSError, ValueError):
            return 0

    def signal(self, number: int) -> bool:
        """Send it a signal; False when it has not begun, or has ended."""
        try:
            os.kill(self._pid(), number)
        except (OSError, ValueError):
            return False
        return True

    def resize(self, rows: int, columns: int) -> bool:
        """Change the size of its terminal; False when it has not begun, has ended, or has no terminal.

        The runtimes' own way, a signal to themselves, works with runc, and with crun 1.8 only for a first process.
        """
        try:
            terminal = os.open(f"/proc/{self._pid()}/fd/0", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except (OSError, ValueError):
            return False
        try:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))
        except OSError:
            return False
        finally:
            os.close(terminal)
        return True

    def _pid(self) -> int:
        return int(Path(self._pid_file).read_text())


class Live:
    """What `Runtime.run` fills in while a container runs. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program: Program | None = None
        self._id = ""
        self._place = ""
        self._over = threading.Event()
        self._numbers = count(1)
        self.first: Process | None = None  # once it has been started

    @contextmanager
    def running(self, program: Program, id: str, place: str) -> Iterator[None]:
        """The container `id` with its bundle in `place` runs as long as the block."""
        with self._lock:
            self._program, self._id, self._place = program, id, place
            self.first = Process(f"{place}/pid")
        try:
            yield
        finally:
            self._over.set()

    def run(
        self,
        spec: ProcessSpec,
        *,
        output: Output,
        scope: Scope,
        stdio: Stdio = _NO_STDIO,
        begun: Callable[[Process], object],
    ) -> int:
        """Run a further process to its end, and return its exit status; blocks. `begun` is told who it is.

        Raises:
            RuntimeFailed: the container is not there any more, or the process cannot be started.
            NotFound: the user is not in the image.
            Cancelled: the scope was cancelled; the process has ended.
        """
        program = self._await(scope)
        number = next(self._numbers)
        told, pid_file = f"{self._place}/process-{number}.json", f"{self._place}/process-{number}.pid"
        user = resolve_user(spec.rootfs, spec.user)
        with open(told, "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(bundle.process(spec, user, insecure=spec.security == "insecure"), file, ensure_ascii=False)
        process = Process(pid_file)
        begun(process)
        return child.run(
            program.exec(self._id, told, pid_file),
            output=output,
            scope=scope,
            kill=lambda: process.signal(SIGKILL),
            meanwhile=lambda: None,
            stdio=stdio,
        )

    def _await(self, scope: Scope) -> Program:
        """The program that runs the container, once it has started."""
        while not self._over.is_set():
            scope.check()
            with self._lock:
                program = self._program
            if program is not None and os.path.exists(f"{self._place}/pid"):
                return program
            self._over.wait(_AGAIN_S)
        raise RuntimeFailed("the container's first process has ended, and the container with it")
