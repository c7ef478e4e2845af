"""The containers of this user's state directory, as commands about them see them: none is said to run that does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from knarr.containers.store import Container, Containers
from knarr.errors import KnarrError


def opened() -> Containers:
    """All containers; those whose monitors were killed are recovered first."""
    from knarr.config import Settings

    containers = Containers(Settings.from_environment(os.environ).root)
    if any(container.is_lost for container in containers.all()):
        from knarr.containers.recover import recover_all

        with_rights(lambda: recover_all(containers))
    return containers


def with_rights(act: Callable[[], object]) -> None:
    """Do `act` with the best rights that are allowed, in a child: this process stays what it is.

    Raises:
        Failed: it failed; the child has said how.
    """
    from knarr.cli.inchild import value_of

    def entered() -> str:
        from knarr.snapshot.namespace import take_rights

        take_rights(os.environ)
        act()
        return ""

    value_of(entered)


def removed(containers: Containers, container: Container, *, with_volumes: bool) -> None:
    """Remove a container that does not run, with the rights that its files need.

    Raises:
        KnarrError: it is in use, or something cannot be removed.
    """
    from knarr.containers.removal import remove

    def act() -> None:
        with container.held():
            remove(containers, container, with_volumes=with_volumes)

    with_rights(act)


def each(words: Sequence[str], act: Callable[[str], str]) -> int:
    """Do `act` for every word and print what it gives; one that fails does not keep the others from it."""
    from knarr.cli.inchild import Failed

    status = 0
    for word in words:
        try:
            text = act(word)
        except Failed as error:
            status = error.status
        except KnarrError as error:
            sys.stdout.flush()
            print(error.render(), file=sys.stderr)
            status = error.exit_code
        else:
            print(text, flush=True)
    return status
