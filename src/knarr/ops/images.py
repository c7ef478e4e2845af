"""Base images: where a tag leads now, the config for a platform, and the layers as records.

One `Images` serves one build: each reference is resolved once, whatever asks
(the frontend for the config, the solver for the layers), so that all of the
build sees one answer. Nothing but JSON is fetched here; layers stay far until
something mounts them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from knarr.cache.record import EMPTY, Record, RecordId
from knarr.cache.store import CacheStore
from knarr.content.store import Store
from knarr.content.target import Fetcher
from knarr.errors import ContentError, KnarrError, NotFound, RegistryError
from knarr.image.select import select
from knarr.llb.ops import ResolveMode
from knarr.ops.lastknown import LastKnown
from knarr.record import record
from knarr.scope import Flights
from knarr.spec.config import ImageConfig, chain_id, decode_config
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import MAX_MANIFEST_BYTES, Index, Manifest, decode
from knarr.spec.mediatype import ESTARGZ
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.remote.repository import Registry
    from knarr.session.session import LentContent


@record
class Found:
    """A base image for one platform."""

    reference: Reference
    digest: Digest  # of what the tag names
    manifest: Manifest
    config: ImageConfig
    raw_config: bytes
    repository: str  # "host/repo" that has the layers; empty: only the own store has them
    note: str = ""  # for the user: why it is not what the registry has now


class Neighbour(Fetcher, Protocol):
    """Another store of images on this machine, such as containerd's."""

    def find(self, reference: Reference) -> Descriptor | None:
        """What `reference` leads to there, or None."""
        ...


class Approval(Protocol):
    """Who says whether an image may be used."""

    def image(self, reference: Reference, top: Descriptor) -> None:
        """`reference` led to `top`.

        Raises:
            KnarrError: it may not.
        """
        ...

    def lent(self, reference: Reference) -> None:
        """The same of an image in content that the caller lends."""
        ...


class Images:
    """Resolves references to images, from the registry, the own store or one beside it."""

    def __init__(
        self,
        store: Store,
        cache: CacheStore,
        registry: Callable[[], Registry],
        *,
        mode: ResolveMode = "default",
        last_known: LastKnown | None = None,
        neighbour: Neighbour | None = None,
        approval: Approval | None = None,
    ) -> None:
        """`last_known` keeps where tags led; without it, only images that have a name here are known offline.

        What `neighbour` has is asked for after the own store, and copied from there. `approval`
        is asked about every image before anything else is made of it.
        """
        self._store = store
        self._cache = cache
        self._registry = registry
        self.mode = mode
        self._last_known = last_known
        self._neighbour = neighbour
        self._approval = approval
        self._next_door: set[str] = set()  # references that the neighbour knows
        self._notes: dict[str, str] = {}  # by reference
        self._flights = Flights()
        self._tops: dict[str, tuple[Descriptor, str]] = {}
        self._found: dict[tuple[str, Platform], Found] = {}

    @property
    def tags(self) -> dict[str, Digest]:
        """Every tag that was resolved in this build, and where it led: what a fingerprint must check again."""
        return {text: top.digest for text, (top, repository) in self._tops.items() if repository and "@" not in text}

    @property
    def used_own_store(self) -> bool:
        """Whether any name was answered by this machine instead of a registry."""
        return bool(self._notes) or any(not repository for _, repository in self._tops.values())

    def found(self) -> Iterator[tuple[Platform, Found, bool]]:
        """Every image that was resolved in this build, the platform it was for, and whether it was lent."""
        for (name, platform), found in sorted(self._found.items(), key=str):
            yield platform, found, name.startswith("lent:")

    def find(self, reference: Reference, platform: Platform) -> Found:
        """The image for `platform`.

        Raises:
            NotFound: no such image, or none for the platform.
            ContentError: what is there is no image.
            RegistryError: the registry said no or could not be reached.
        """
        key = (str(reference), platform)
        found = self._found.get(key)
        if found is None:
            found = self._flights.once(key, lambda: self._find(reference, platform))
            self._found[key] = found
        return found

    def find_lent(self, content: LentContent, digest: Digest, reference: Reference, platform: Platform) -> Found:
        """The image of `digest` in lent content; `reference` is what it is called. Its layers stay where they are.

        Raises:
            NotFound: it is not there, or has nothing for the platform.
            ContentError: what is there is no image.
        """
        key = (f"lent:{digest}", platform)
        found = self._found.get(key)
        if found is None:
            found = self._flights.once(key, lambda: self._find_lent(content, digest, reference, platform))
            self._found[key] = found
        return found

    def located(self, reference: Reference) -> tuple[Descriptor, Fetcher]:
        """What `reference` leads to, and where that is.

        Raises:
            NotFound, RegistryError: see `find`.
        """
        top, repository = self._top(reference)
        return top, self._source(reference, repository)

    def _find_lent(self, content: LentContent, digest: Digest, reference: Reference, platform: Platform) -> Found:
        try:
            size = content.size_of(digest)
            if size is None:
                raise NotFound(f"{digest} is not in the OCI layout")
            if self._approval is not None:
                self._approval.lent(reference)
            top = Descriptor("", digest, size)
            return self._image(reference, platform, top, content, "")
        except ContentError as error:
            error.with_context(image=reference.familiar)
            raise

    def _find(self, reference: Reference, platform: Platform) -> Found:
        top, repository = self._top(reference)
        source = self._source(reference, repository)
        try:
            found = self._image(reference, platform, top, source, repository)
            if source is self._neighbour:
                self._bring(found, source)
        except NotFound as error:
            if self.mode == "never" and repository:
                raise _not_here(reference) from error
            error.with_context(image=reference.familiar)
            raise
        except ContentError as error:
            error.with_context(image=reference.familiar)
            raise
        if self.mode == "never" and not self._is_here(found):
            raise _not_here(reference)
        return found

    def _bring(self, found: Found, source: Fetcher) -> None:
        """Copy the layers now: who lends them may drop them, and a record cannot say where they are."""
        for layer in found.manifest.layers:
            if not self._store.has(layer):
                with source.open(layer) as stream:
                    self._store.push(layer, stream)

    def _is_here(self, found: Found) -> bool:
        """Whether nothing of the image is only in a registry."""
        chain = ""
        for layer, diff_id in zip(found.manifest.layers, found.config.diff_ids, strict=True):
            chain = chain_id(chain, diff_id)
            known = self._cache.get(f"layer:{chain}")
            if not self._store.has(layer) and (known is None or known.snapshot is None):
                return False
        return True

    def _image(
        self, reference: Reference, platform: Platform, top: Descriptor, source: Fetcher, repository: str
    ) -> Found:
        document = self._document(top, source)
        if isinstance(document, Index):
            document = self._document(select(document, platform), source)
        if not isinstance(document, Manifest):
            raise ContentError("an index inside an index is not an image")
        raw = self._small(document.config, source)
        config = decode_config(raw)
        if len(document.layers) != len(config.diff_ids):
            raise ContentError(
                f"no image: its manifest has {len(document.layers)} layers, its config {len(config.diff_ids)}",
                hint=f"the config is of the type {document.config.media_type}",
            )
        note = self._notes.get(str(reference.tagged()), "")
        return Found(reference, top.digest, document, config, raw, repository, note)

    def _top(self, reference: Reference) -> tuple[Descriptor, str]:
        key = str(reference.tagged())  # `app` and `app:latest` are one question
        known = self._tops.get(key)
        if known is None:
            known = self._flights.once(("top", key), lambda: self._approved(reference))
            self._tops[key] = known
        return known

    def _approved(self, reference: Reference) -> tuple[Descriptor, str]:
        top, repository = self._resolve(reference)
        if self._approval is not None:
            self._approval.image(reference.tagged(), top)
        return top, repository

    def _resolve(self, reference: Reference) -> tuple[Descriptor, str]:
        repository = f"{reference.registry}/{reference.repository}"
        if reference.digest is not None:
            size = self._store.find(reference.digest)
            if size is not None:
                raw = self._store.read(Descriptor("", reference.digest, size))
                return decode(raw).descriptor, repository
        local = self._local(reference)
        if local is None and self.mode in ("local", "never"):
            local = self._beside(reference)
        if local is not None and self.mode in ("local", "never"):
            return local, ""
        known = self._known(reference)
        if known is not None and self.mode in ("local", "never"):
            self._notes[str(reference.tagged())] = f"as last seen: {known.digest}"
            return known, repository
        if self.mode == "never":
            raise _not_here(reference)
        return self._ask(reference, repository, local, known)

    def _ask(
        self, reference: Reference, repository: str, local: Descriptor | None, known: Descriptor | None
    ) -> tuple[Descriptor, str]:
        """What the registry says; what is here where it says nothing, unless it must."""
        try:
            top = self._registry().repository(reference).resolve(reference.locator)
        except KnarrError as error:
            if self.mode == "default":
                local = local or self._beside(reference)
            if local is not None and self.mode != "pull":
                return local, ""
            is_silent = isinstance(error, RegistryError) and (error.status == 0 or error.temporary)
            if known is not None and is_silent and self.mode == "default":
                self._notes[str(reference.tagged())] = f"{error.message}; as last seen: {known.digest}"
                return known, repository
            if isinstance(error, ContentError) and not isinstance(error, NotFound):
                error.with_context(image=reference.familiar, hint="is this a registry, and the name of an image?")
            raise error.with_context(hint="no image of this name is in knarr's own store either") from None
        if self._last_known is not None and reference.digest is None:
            self._last_known.note(str(reference.tagged()), top)
        return top, repository

    def _known(self, reference: Reference) -> Descriptor | None:
        """What the name was when a registry last told, if its manifest is still here."""
        known = self._last_known.get(str(reference.tagged())) if self._last_known is not None else None
        return known if known is not None and self._store.has(known) else None

    def _local(self, reference: Reference) -> Descriptor | None:
        try:
            return self._store.resolve(str(reference.tagged()))
        except NotFound:
            return None

    def _beside(self, reference: Reference) -> Descriptor | None:
        """What the neighbour has under this name."""
        found = self._neighbour.find(reference) if self._neighbour is not None else None
        if found is not None:
            self._next_door.add(str(reference.tagged()))
        return found

    def _source(self, reference: Reference, repository: str) -> Fetcher:
        if self._neighbour is not None and str(reference.tagged()) in self._next_door:
            return self._neighbour
        asks = repository and self.mode != "never"
        return self._registry().repository(reference) if asks else self._store

    def _document(self, descriptor: Descriptor, source: Fetcher) -> Manifest | Index:
        return decode(self._small(descriptor, source), descriptor.media_type)

    def _small(self, descriptor: Descriptor, source: Fetcher) -> bytes:
        """A manifest or config, kept in the store so that it is fetched once."""
        if not self._store.has(descriptor):
            if descriptor.size > MAX_MANIFEST_BYTES:
                raise ContentError(f"{descriptor.digest}: {descriptor.size} bytes are too many for a manifest")
            with source.open(descriptor) as stream:
                self._store.push(descriptor, stream)
        return self._store.read(descriptor)

    def records(self, found: Found, *, limit: int | None = None) -> RecordId:
        """The image's layers, or the lowest of them, as a chain of records, saved in the cache; returns the topmost."""
        layers, diff_ids = found.manifest.layers[:limit], found.config.diff_ids[:limit]
        chain = ""
        parent: RecordId | None = None
        for layer, diff_id in zip(layers, diff_ids, strict=True):
            chain = chain_id(chain, diff_id)
            parent = self._record(f"layer:{chain}", parent, layer, diff_id, found)
        if parent is None:
            now = time.time_ns()
            self._cache.save(Record(EMPTY, created_ns=now, used_ns=now, description="an image without layers"), [])
            return EMPTY
        return parent

    def _record(
        self, id: RecordId, parent: RecordId | None, layer: Descriptor, diff_id: Digest, found: Found
    ) -> RecordId:
        known = self._cache.get(id)
        if known is not None and known.blob is not None:
            if found.repository and found.repository not in known.remote:
                self._cache.update(id, remote=(*known.remote, found.repository))
            return id
        now = time.time_ns()
        remote = (found.repository,) if found.repository else ()
        description = f"pulled from {found.reference.familiar}"
        blob = layer.with_only(ESTARGZ)
        record = Record(
            id, parent, blob=blob, diff_id=diff_id, remote=remote, description=description, created_ns=now, used_ns=now
        )
        self._cache.save(record, [])
        return id


def _not_here(reference: Reference) -> NotFound:
    hint = "--pull=missing lets knarr ask the registry for it"
    return NotFound(f"{reference.familiar}: not, or not all of it, on this machine", hint=hint)
