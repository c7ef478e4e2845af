"""Sockets in the file system."""

from __future__ import annotations

import socket


def answers(path: str) -> bool:
    """Whether somebody listens at the unix socket `path`; the file of one that has ended does not answer."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
