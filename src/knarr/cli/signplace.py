"""Open the places of images whose signatures are looked at or made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from knarr.cli.places import opened_source
from knarr.errors import UsageError
from knarr.image.spot import ARCHIVES, Spot, spot

if TYPE_CHECKING:
    from knarr.cli.flags import Parsed
    from knarr.cli.places import Place
    from knarr.spec.descriptor import Descriptor


@contextmanager
def opened_for_looking(word: str, given: Parsed) -> Iterator[tuple[Spot, Place, Descriptor]]:
    """The place of the image `word`, and what the name leads to.

    Raises:
        KnarrError: there is no such image, or its place cannot be read.
    """
    from knarr.cli.copy import trusting
    from knarr.cli.transfer import quiet_transfer

    where = spot(word)
    with quiet_transfer() as world, ExitStack() as stack:
        registry = trusting(world, given, stack)
        place, root = stack.enter_context(opened_source(world, where, registry))
        yield where, place, root


@contextmanager
def opened_for_signing(word: str, given: Parsed) -> Iterator[tuple[Spot, Any, Descriptor]]:
    """The same for writing beside the image.

    Raises:
        UsageError: it is in an archive, to which nothing can be added.
    """
    where = spot(word)
    if where.kind in ARCHIVES:
        raise UsageError(
            f"{where.text}: nothing can be added to an archive", hint="copy it to a layout (oci:DIR) and sign it there"
        )
    with opened_for_looking(word, given) as (where, place, root):
        yield where, place, root
