"""A container's monitor is started, and heard until the container runs."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from knarr.containers import wire
from knarr.containers.store import Container


def launch(container: Container, request: Mapping[str, Any]) -> socket.socket:
    """Start the monitor, and say `request` to it; the connection is the caller's, who hears on it what comes of it."""
    ours, theirs = socket.socketpair()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    words = os.open(container.path / "monitor.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    inherited = 3
    actions = [
        (os.POSIX_SPAWN_DUP2, null, 0),
        (os.POSIX_SPAWN_DUP2, null, 1),
        (os.POSIX_SPAWN_DUP2, words, 2),
        (os.POSIX_SPAWN_DUP2, theirs.fileno(), inherited),
    ]
    # -P: the current directory is nobody's to put modules into.
    argv = [sys.executable, "-P", "-m", "knarr.containers.monitor", str(container.path), str(inherited)]
    try:
        os.posix_spawn(sys.executable, argv, dict(os.environ), file_actions=actions, setsid=True)
        wire.tell(ours, wire.REQUEST, dict(request))
    except BaseException:
        ours.close()
        raise
    finally:
        os.close(null)
        os.close(words)
        theirs.close()
    return ours
