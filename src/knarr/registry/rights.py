"""Who asks, and what they may do. Pure."""

from __future__ import annotations

from collections.abc import Callable

from knarr.record import record

PULL, PUSH, DELETE = "pull", "push", "delete"
ACTIONS = (PULL, PUSH, DELETE)


def _everything(action: str, repository: str) -> bool:
    return True


@record
class Caller:
    """Somebody with rights. `name` is empty for who has not logged in.

    A token may narrow what its holder may *do*; what the holder could `read` by
    the rules decides where a blob may be mounted from and what the catalog lists.
    """

    name: str
    may: Callable[[str, str], bool]  # (action, repository)
    reads: Callable[[str], bool]


ANYONE = Caller("", _everything, lambda repository: True)
