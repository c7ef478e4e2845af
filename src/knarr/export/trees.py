"""What an exporter needs of the engine: a result's layers, its merged tree, and the layers' content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from knarr.content.target import Fetcher
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.cache.record import RecordId
    from knarr.layer.compress import Compression


@record
class Layer:
    """One layer of a result, ready to be pushed.

    `created_ns` says when it was made and `description` by what (0 and "": its
    image's own history knows); `remote` are the repositories ("host/repo") that
    have the blob, which may not be here.
    """

    descriptor: Descriptor
    diff_id: Digest
    created_ns: int = 0
    remote: tuple[str, ...] = ()
    description: str = ""
    squashed: int = 0  # how many layers this one was made of; 0: it is one by itself


@record
class LayerForm:
    """How the layers of a result are to be made.

    `base` are the diffIDs of the base image: layers that the result has from it,
    bottom up, are nobody's to change. All times in others are cut down to
    `max_mtime_s` (seconds since 1970). `squash` makes one layer of all of them,
    or of those above the base ("all", "new", or "" for no squashing).
    """

    compression: Compression
    base: tuple[Digest, ...] = ()
    max_mtime_s: int | None = None
    squash: str = ""


class Trees(Protocol):
    """Results as layers and as trees. A tree is named by its record; None is the empty one."""

    def layers(self, tree: RecordId | None, form: LayerForm) -> Iterator[Layer]:
        """The layers of `tree`, bottom up, each as soon as it and those below are ready.

        Making of all of them begins with the first `next`. May be asked for several
        trees at once.

        Raises:
            KnarrError: a layer cannot be made or fetched.
        """
        ...

    def mounted(self, tree: RecordId | None) -> AbstractContextManager[Path]:
        """The merged tree, read-only, for as long as the block lasts."""
        ...

    def fetcher(self) -> Fetcher:
        """Opens any of these layers, also those that are still in a registry (they come into the store then), and
        what is in the store."""
        ...
