"""One shared cache as a graph: from the records of a vertex's inputs to the records of the vertex.

A record matches a vertex's output when, for every input of the vertex, one of the
links into the record comes from a record that matched that input, with the same
selector; or from the record of that input's content. Nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from knarr.cache.sharedconfig import Config
from knarr.cache.sharedmounts import mounts_among
from knarr.errors import ContentError
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.content.target import Lender

DIFF_ID = "containerd.io/uncompressed"  # annotation: the diffID of a layer
CREATED = "buildkit/createdat"  # annotation: when a layer was made
Way = tuple[int, str]
"""One way an input may be known: (record of this graph, selector)."""


@record
class Origin:
    """Where the blobs of a cache are."""

    name: str  # for people: "registry.example/app:cache", "directory /var/cache/app"
    place: Lender
    repository: str = ""  # "host/repository", empty for a directory


@record
class SharedResult:
    """A result that a shared cache promises: its layers, bottom up, each with its diffID."""

    layers: tuple[tuple[Descriptor, Digest], ...]
    created: str
    origin: Origin


class SharedGraph:
    """The records of one cache. Immutable once made."""

    def __init__(self, config: Config, blobs: Mapping[Digest, Descriptor], origin: Origin) -> None:
        """`blobs` are the descriptors of the layers; a result of a layer that is not among them is none."""
        self._config = config
        self._blobs = blobs
        self.origin = origin
        self.mounts = mounts_among(blobs.values(), origin)
        self._roots: dict[str, list[int]] = {}
        self._children: dict[tuple[int, int, str, str], list[int]] = {}  # (from, input, selector, digest)
        for at, one in enumerate(config.records):
            if not one.inputs:
                self._roots.setdefault(one.digest, []).append(at)
            for number, links in enumerate(one.inputs):
                for link in links:
                    self._children.setdefault((link.record, number, link.selector, one.digest), []).append(at)

    def roots(self, digest: str) -> list[int]:
        """The records without inputs that go by `digest`: of a source, or of a content."""
        return self._roots.get(digest, [])

    def find(self, digest: str, inputs: Sequence[Iterable[Way]]) -> set[int]:
        """The records of the op `digest`, all of whose inputs are known one way or another."""
        if not inputs:
            return set(self.roots(digest))
        found: set[int] | None = None
        for number, ways in enumerate(inputs):
            here = {child for at, selector in ways for child in self._children.get((at, number, selector, digest), ())}
            found = here if found is None else found & here
            if not found:
                return set()
        return {at for at in found or () if len(self._config.records[at].inputs) == len(inputs)}

    def contents(self, records: Iterable[int]) -> dict[int, set[str]]:
        """By input, the digests of the records that stand for its content (or are another key of a source)."""
        found: dict[int, set[str]] = {}
        for at in records:
            for number, links in enumerate(self._config.records[at].inputs):
                roots = (self._config.records[link.record] for link in links if not link.selector)
                found.setdefault(number, set()).update(root.digest for root in roots if not root.inputs)
        return found

    def results(self, records: Iterable[int]) -> list[SharedResult]:
        """What these records promise, the newest first; without those that are not complete."""
        found = []
        for at in records:
            for result in self._config.records[at].results:
                layers = [self._layer(layer.blob) for layer in self._config.layers_of(result)]
                whole = tuple(layer for layer in layers if layer is not None)
                if whole and len(whole) == len(layers):
                    found.append(SharedResult(whole, result.created, self.origin))
        found.sort(key=lambda one: one.layers[-1][0].digest)
        found.sort(key=lambda one: one.created, reverse=True)
        return found

    def _layer(self, blob: Digest) -> tuple[Descriptor, Digest] | None:
        described = self._blobs.get(blob)
        if described is None:
            return None
        try:
            return described, Digest.parse(described.annotations.get(DIFF_ID, ""))
        except ContentError:
            return None  # without it no image can be made of the layer
