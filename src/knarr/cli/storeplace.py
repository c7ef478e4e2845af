"""The store looked at as one repository: the names that begin with `host/repository`, its tags behind them.

Referrers are kept under the referrers tag of their subject, as in a registry that
has no API for them; such names are left out of `knarr images`. Content that is not
here comes from the registry that is known to have it.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from knarr.errors import NotFound
from knarr.image.successors import is_document, read_document
from knarr.remote.anywhere import Anywhere
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, decode, encode_index
from knarr.spec.referrers import entry as entry_of
from knarr.spec.referrers import fallback_tag
from knarr.streams import CHUNK, Readable

if TYPE_CHECKING:
    from knarr.content.store import Store
    from knarr.content.target import Report
    from knarr.remote.repository import Registry
    from knarr.scope import Scope
    from knarr.spec.reference import Reference


class StorePlace:
    """One repository of the store. May be used from any thread."""

    complete = False  # the store may have an index without all of its platforms

    def __init__(self, store: Store, reference: Reference, registry: Callable[[], Registry], scope: Scope) -> None:
        self.name = f"{reference.registry}/{reference.repository}"
        self._store = store
        self._anywhere = Anywhere(store, registry, scope)
        self._lock = threading.Lock()

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self._anywhere.open(descriptor)

    def has(self, descriptor: Descriptor) -> bool:
        return self._store.has(descriptor)

    def resolve(self, name: str) -> Descriptor:
        """What a tag or a digest leads to.

        Raises:
            NotFound: the store has no image of this name.
        """
        if ":" in name:
            return self._store.resolve(name)
        found = self._store.names.get(f"{self.name}:{name}")
        if found is None:
            raise NotFound(
                f"there is no image {self.name}:{name} in the store", hint="`knarr images` lists what there is"
            )
        return found.descriptor.bare()

    def tags(self) -> Iterator[str]:
        start = f"{self.name}:"
        for name in self._store.names.list(start):
            yield name.name.removeprefix(start)

    def predecessors(self, descriptor: Descriptor, artifact_type: str = "") -> tuple[Descriptor, ...]:
        found = self._listed(descriptor.digest)
        return tuple(entry for entry in found if not artifact_type or entry.artifact_type == artifact_type)

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        if is_document(descriptor.media_type):
            self.push_manifest(descriptor, b"".join(iter(lambda: content.read(CHUNK), b"")))
            return
        self._store.push(descriptor, content, report=report)

    def push_manifest(self, descriptor: Descriptor, raw: bytes, *, tag: str = "") -> None:
        self._store.push(descriptor.bare(), io.BytesIO(raw))
        document = decode(raw, descriptor.media_type)
        if document.subject is not None:
            self._list(document.subject.digest, entry_of(document))
        if tag:
            self._store.tag(descriptor.bare(), f"{self.name}:{tag}")

    def _listed(self, subject: Digest) -> tuple[Descriptor, ...]:
        named = self._store.names.get(f"{self.name}:{fallback_tag(subject)}")
        if named is None or named.descriptor.digest == subject:
            return ()
        document = read_document(self._store, named.descriptor)
        return document.manifests if isinstance(document, Index) else ()

    def _list(self, subject: Digest, referrer: Descriptor) -> None:
        with self._lock:
            present = self._listed(subject)
            if any(entry.digest == referrer.digest for entry in present):
                return
            index = encode_index([*present, referrer])
            made = self._store.put(index.media_type, index.raw)
            self._store.tag(made, f"{self.name}:{fallback_tag(subject)}")
