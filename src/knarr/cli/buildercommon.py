"""What several commands of `knarr builder` share: flags, and a connection to a node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from knarr.cli.builderchoice import chosen, quiet_grpc
from knarr.cli.flags import Flag, Kind, Parsed
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.client.connection import Builder
    from knarr.client.stored import Builders, Node, StoredBuilder
    from knarr.scope import Scope

HELP = Flag("help", Kind.SWITCH, "", "show this text", short="h")
FORMAT = Flag("format", Kind.TEXT, "table|json", "how it is told (default: table)")
BUILDER = Flag("builder", Kind.TEXT, "BUILDER", "a name or an address (default: the one in use)")


def stored() -> Builders:
    """The builders of this user."""
    from knarr.client.stored import Builders, directory

    return Builders(directory(os.environ))


def meant(given: Parsed, command: str) -> StoredBuilder:
    """The builder that a command is about: its one argument, --builder, or the one in use.

    Raises:
        UsageError: none is meant, or it is not known.
    """
    from knarr.cli.buildelsewhere import chosen_builder
    from knarr.cli.builderchoice import BuilderTls

    if len(given.words) > 1:
        raise UsageError(f"{command} takes one builder, {len(given.words)} given", hint=f"see `{command} --help`")
    text = chosen(given.words[0] if given.words else given.text("builder"), os.environ)
    if not text:
        hint = "name one, or an address; `knarr du` and `knarr prune` are for this process's own cache"
        raise UsageError(f"{command}: no builder is in use", hint=hint)
    return chosen_builder(text, BuilderTls())


@contextmanager
def reached(node: Node, scope: Scope | None = None) -> Iterator[Builder]:
    """A connection to `node`.

    Raises:
        KnarrError: it does not answer.
    """
    quiet_grpc()
    from knarr.cli.buildelsewhere import PLACE
    from knarr.client.address import read_address
    from knarr.client.connection import connected
    from knarr.config import Settings
    from knarr.owner import owned_directory

    place = Settings.from_environment(os.environ).run / PLACE
    with owned_directory(place) as mine, connected(read_address(node.address), node.tls, mine, scope=scope) as builder:
        yield builder
