"""An act that needs rights is done by a child of this process, which gives them up with its end.

In a user namespace everything ends with the process that entered it, so one that is to
start what outlives it must not enter one itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from knarr.errors import KnarrError


class Failed(KnarrError):
    """The child has failed, and has said how; `status` is what it ended with."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it failed with status {status}")
        self.status = status


def value_of(act: Callable[[], str]) -> str:
    """The text that `act` gives, in a child.

    Raises:
        Failed: it raised something, which the child has shown.
    """
    back, says = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        status = 70
        try:
            os.close(back)
            status = _report(act, says)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(says)
    with open(back, encoding="utf-8") as stream:
        text = _read(stream.read)
    _, ended = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(ended)
    if status:
        raise Failed(status if status > 0 else 128 - status)
    return text


def _read(read: Callable[[], str]) -> str:
    """All that the child says. An interrupt is for the child as well, which ends in order: it is waited for."""
    while True:
        try:
            return read()
        except KeyboardInterrupt:
            continue


def _report(act: Callable[[], str], says: int) -> int:
    from knarr.cli.failure import report

    try:
        os.write(says, act().encode())
    except BaseException as error:
        return report(error, sys.argv[1:])
    return 0
