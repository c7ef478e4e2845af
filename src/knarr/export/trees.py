"""What an exporter asks of the engine: a result's layers as blobs, and its tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from knarr.cache.record import RecordId
from knarr.content.target import Fetcher
from knarr.layer.compress import Compression
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a result. `remote` are the repositories ("host/repo") known to have the blob."""

    descriptor: Descriptor
    diff_id: Digest
    created_ns: int = 0
    remote: tuple[str, ...] = ()


class Trees(Protocol):
    """Results of a solve, by record."""

    def layers(self, tree: RecordId | None, compression: Compression) -> Iterator[Layer]:
        """The layers bottom up, each as soon as its blob is ready (which may be in a registry only)."""
        ...

    def mounted(self, tree: RecordId | None) -> AbstractContextManager[Path]:
        """The whole tree, read-only."""
        ...

    def fetcher(self) -> Fetcher:
        """Opens the blobs of these layers, wherever they are, and everything in the store."""
        ...
