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

    `remote` are repositories ("host/repo") that have the blob, which may not be
    here; `created_ns` and `description` say when and by what it was made (0 and ""
    where its image's own history says so).
    """

    descriptor: Descriptor
    diff_id: Digest
    remote: tuple[str, ...] = ()
    created_ns: int = 0
    description: str = ""


class Trees(Protocol):
    """Results as layers and as trees. A tree is named by its record; None is the empty one."""

    def layers(self, tree: RecordId | None, compression: Compression, *, oci: bool) -> Iterator[Layer]:
        """The layers of `tree`, bottom up, each as soon as it and those below are ready.

        Making of all of them begins with the first `next`. `oci` False asks for
        Docker's media types. May be asked for several trees at once.

        Raises:
            KnarrError: a layer cannot be made or fetched.
        """
        ...

    def mounted(self, tree: RecordId | None) -> AbstractContextManager[Path]:
        """The merged tree, read-only, for as long as the block lasts."""
        ...

    def fetcher(self) -> Fetcher:
        """Opens any of these layers, also those that are still in a registry, and what is in the store."""
        ...
