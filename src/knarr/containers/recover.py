"""Containers whose monitor was killed: their processes end, and their state tells the truth.

As root, a small process watches over the monitor and does it at once; in a user namespace
whoever watches over that ends the processes (`privilege.watch`). Whatever is still left, also
after a reboot, is done by the next command that looks.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from knarr.config import Settings
from knarr.containers.removal import remove
from knarr.containers.state import LOST
from knarr.containers.store import Container, Containers
from knarr.errors import KnarrError
from knarr.record import replace
from knarr.runtime.runner import Runtime

_WORDS = "its monitor was killed, or the machine was"


@contextmanager
def guarded(container: Container, *foreign: socket.socket) -> Iterator[None]:
    """While in the block, a child waits for the end of this process, and recovers the container unless it was orderly.

    To be entered before threads are started and locks are taken. `foreign` are what the child must not keep open.
    """
    waits, ours = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(ours)
            for connection in foreign:
                connection.close()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if not os.read(waits, 1):
                recover(Containers(Settings.from_environment(os.environ).root), container)
            status = 0
        finally:
            os._exit(status)
    os.close(waits)
    try:
        yield
    finally:
        with suppress(OSError):
            os.write(ours, b".")
        os.close(ours)
        os.waitpid(child, 0)


def recover(containers: Containers, container: Container) -> None:
    """End what is left of a lost container, and note that it is over; nothing, if it is not lost (any more).

    Raises:
        KnarrError: something cannot be ended or removed.
    """
    settings = Settings.from_environment(os.environ)
    with container.held():
        if container.state.status != "running":
            return
        runtime = Runtime(settings.run, settings.oci_runtime)
        runtime.sweep()
        runtime.close()
        end = replace(
            container.state, status="exited", pid=0, finished_ns=time.time_ns(), exit_status=LOST, error=_WORDS
        )
        container.write_state(end)
        if container.spec.remove:
            remove(containers, container, with_volumes=True)


def recover_all(containers: Containers) -> None:
    """Recover every container that is lost. What fails is left for the next time."""
    for container in containers.all():
        with suppress(KnarrError, OSError):
            if container.is_lost:
                recover(containers, container)
