"""A record's change as a layer blob: fetched when it is far, applied when a tree is needed, packed when it is exported.

The way of the bytes is one pass each: registry → verify → store; store →
decompress → untar; overlay upper → tar → hash → compress → hash → store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cache.flight import flight
from knarr.cache.record import SHARED, Record
from knarr.cache.store import CacheStore
from knarr.content.growth import Growth
from knarr.content.store import Store
from knarr.content.target import Fetcher, Lender
from knarr.errors import Bug, Cancelled, ContentError, DigestMismatch, KnarrError, NotFound, SharedLayerLost
from knarr.progress import Sink, Status
from knarr.record import record, replace
from knarr.scope import Flights, Outcome, Scope
from knarr.snapshot.snapshotter import Snapshotter
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference
from knarr.streams import Readable, Writable, copy

if TYPE_CHECKING:
    from knarr.layer.compress import Compression
    from knarr.remote.repository import Registry


_ESTARGZ = "estargz"
REWRITTEN = "buildkit/rewritten-timestamp"  # BuildKit's annotation on a layer whose times were cut down


@record
class Packed:
    """A layer blob of a record's change."""

    descriptor: Descriptor
    diff_id: Digest


@record
class Deferred:
    """A layer that nobody has written yet: how to write its tar, whom to tell of the blob, and who knows its step."""

    write: Callable[[Writable], None]
    save: Callable[[Packed], None]
    blame: Callable[[BaseException], BaseException]  # a failure with the place in the Dockerfile added


class Blobs:
    """Layer blobs of records. Safe from several threads."""

    def __init__(
        self,
        store: Store,
        cache: CacheStore,
        snapshotter: Snapshotter,
        registry: Callable[[], Registry],
        scope: Scope,
        sink: Sink,
        *,
        flights: Path,
        jobs: int,
    ) -> None:
        self._store = store
        self._cache = cache
        self._snapshotter = snapshotter
        self._registry = registry
        self._scope = scope
        self._sink = sink
        self._jobs = jobs
        self._flight_dir = flights
        self._flights = Flights()
        self._remote: dict[Digest, tuple[str, ...]] = {}
        self._shared: dict[Digest, Record] = {}  # records of shared caches that are exported
        self._deferred: dict[str, Deferred] = {}
        self._notes = threading.Lock()
        self._places: dict[Digest, Lender] = {}  # shared caches, asked before any repository
        self._reached: set[Digest] = set()  # blobs of shared caches that were there when they were asked about
        self._growing: dict[Digest, Growth] = {}  # blobs that `prefetch` brings, for `apply` to follow

    def defer(self, id: str, layer: Deferred) -> None:
        """Let `pack` write the layer of record `id` with `layer` when it is first asked for."""
        self._deferred[id] = layer

    def lend(self, digest: Digest, place: Lender) -> None:
        """Know that `place` has a blob, for this build."""
        self._places.setdefault(digest, place)

    def is_within_reach(self, record: Record) -> bool:
        """Whether the blob of `record` is here or can be fetched.

        A base image's layer is taken to be where it was seen; a shared cache is asked, since it is
        cleaned up by others, and since a step can be run instead.
        """
        blob = record.blob
        if blob is None:
            return False
        if self._store.has(blob):
            return True
        if SHARED not in record.history:
            return bool(record.remote)
        if blob.digest in self._reached:
            return True
        places: list[Lender] = [self._places[blob.digest]] if blob.digest in self._places else []
        try:
            places += [self._registry().repository(Reference.parse(name)) for name in record.remote if not places]
            if not any(place.lends(blob) for place in places):
                return False
        except KnarrError:
            return False
        self._reached.add(blob.digest)
        return True

    def prefetch(self, records: Sequence[Record]) -> None:
        """Begin to fetch every blob of `records` that is not here; returns at once."""
        for link in records:
            blob = link.blob
            if blob is not None and not self._store.has(blob):
                growth = Growth()
                if self._growing.setdefault(blob.digest, growth) is growth:
                    self._scope.attempt(self._grow, link, blob.digest, growth)

    def _grow(self, record: Record, digest: Digest, growth: Growth) -> None:
        failure: BaseException | None = None
        try:
            self.fetch(record)
        except BaseException as error:
            failure = error
        finally:
            self._growing.pop(digest, None)
            growth.end(failure)

    def fetch(self, record: Record) -> Descriptor:
        """Bring the blob of `record` into the store, from whichever repository has it.

        Raises:
            NotFound, RegistryError: none of them gave it.
        """
        blob = record.blob
        if blob is None:
            raise Bug(f"record {record.id} has no blob")
        if not self._store.has(blob):
            try:
                self._flights.once(blob.digest, lambda: self._fetch_from_any(blob, record.remote))
            except KnarrError as error:
                lost = self._lost(record, error)
                if lost is error:  # a failure that is its own cause has no end
                    raise
                raise lost from error
        return blob

    def _lost(self, record: Record, error: KnarrError) -> KnarrError:
        """What the failure to have the layer of `record` is: another one, if the build can do without that layer."""
        if SHARED not in record.history or isinstance(error, SharedLayerLost):
            return error
        return SharedLayerLost(f"a layer of the cache {record.history[SHARED]} cannot be had: {error.message}")

    def _fetch_from_any(self, blob: Descriptor, repositories: Sequence[str]) -> None:
        if self._store.has(blob):
            return
        failure: KnarrError = NotFound(
            f"layer {blob.digest} is not in the store and no registry is known to have it",
            hint="pull the base image again",
        )
        for name, source in self._sources(blob, repositories):
            try:
                self._fetch_one(blob, name, source)
                return
            except KnarrError as error:
                failure = error
        raise failure

    def _sources(self, blob: Descriptor, repositories: Sequence[str]) -> Iterator[tuple[str, Fetcher]]:
        place = self._places.get(blob.digest)
        if place is not None:
            yield "shared cache", place
        for name in repositories:
            yield name, self._registry().repository(Reference.parse(name))

    def _fetch_one(self, blob: Descriptor, name: str, source: Fetcher) -> None:
        vertex = f"pull {name}"
        with flight(self._flight_dir, f"blob-{blob.digest.hex}", scope=self._scope):
            if self._store.has(blob):
                return

            def report(done: int) -> None:
                self._scope.check()
                self._sink.send(Status(vertex, str(blob.digest), done, blob.size))

            with source.open(blob) as stream:
                self._store.push(blob, stream, report=report, growth=self._growing.get(blob.digest))
            self._sink.send(Status(vertex, str(blob.digest), blob.size, blob.size, done=True))

    def fetch_known(self, blob: Descriptor) -> None:
        """Bring a layer that this build met as some record's blob into the store."""
        record = self._shared.get(blob.digest)
        if record is not None:
            self.fetch(record)
            return
        remote = self._remote.get(blob.digest, ()) or self._store.sources.of(blob.digest)
        self._flights.once(blob.digest, lambda: self._fetch_from_any(blob, remote))

    def open(self, record: Record) -> AbstractContextManager[Readable]:
        """The blob's bytes, fetched first if need be."""
        return self._store.open(self.fetch(record))

    @contextmanager
    def _open_early(self, record: Record) -> Iterator[Readable]:
        """Like `open`, but a blob that is on its way is read while it comes."""
        growth = self._growing.get(record.blob.digest) if record.blob is not None else None
        with ExitStack() as stack:
            following = None
            if growth is not None:
                # Once cancelled, the thread that fetches may not even begin.
                stack.enter_context(self._scope.on_cancel(lambda: growth.end(Cancelled())))
                following = growth.follow()
            yield stack.enter_context(following or self.open(record))

    def apply(self, record: Record, root: Path) -> None:
        """Unpack the change of `record` over the mounted tree `root`.

        Raises:
            ContentError: the layer cannot be unpacked or is not the one the image names.
            Restarted: the blob's bytes were wrong, and others are on their way: begin again with a new tree.
        """
        from knarr.layer.apply import apply
        from knarr.layer.decompress import open_compressed

        if record.blob is None:
            record = replace(record, blob=self.pack(record, None).descriptor)
        try:
            with self._open_early(record) as stream:
                diff_id = apply(open_compressed(stream), root, check=self._scope.check)
            if record.diff_id is not None and diff_id != record.diff_id:
                raise DigestMismatch(f"the layer unpacks to {diff_id}, but the image config says {record.diff_id}")
        except ContentError as error:
            layer = str(record.blob.digest) if record.blob else record.id
            if layer not in error.message:
                error.with_context(layer=layer, image=next(iter(record.remote), ""))
            raise self._lost(record, error) from error.__cause__

    def pack(self, record: Record, compression: Compression | None) -> Packed:
        """The change of `record` as a blob; packed now if there is none in the wanted compression.

        A layer of a base image keeps the form it has, unless `compression` forces
        another. `compression` None: any form will do.
        """
        if not self._is_somewhere(record):
            if compression is not None and compression.kind == _ESTARGZ and self._is_tree(record):
                return self._pack_variant(record, "", self._writer(record), compression)
            made = self._flights.once(record.id, lambda: self._pack(record, compression))
            # A record may just have been packed for somebody who wanted another form.
            record = replace(self._cache.get(record.id) or record, blob=made.descriptor, diff_id=made.diff_id)
        if compression is None or _fits(record, compression):
            return _own(record)
        return self._pack_variant(record, "", self._rewriter(record), compression)

    def _pack(self, record: Record, compression: Compression | None) -> Packed:
        """The first blob of a record. Never eStargz: its diffID would count the table, which is not of the tree."""
        from knarr.layer.compress import Compression
        from knarr.layer.pack import pack

        chosen = compression if compression and compression.kind != _ESTARGZ else Compression()
        deferred = self._deferred.pop(record.id, None)
        if deferred is not None:
            try:
                made = pack(deferred.write, self._store, compression=chosen, jobs=self._jobs, check=self._scope.check)
            except (KnarrError, OSError) as error:
                raise deferred.blame(error) from error.__cause__
            packed = Packed(made.descriptor, made.diff_id)
            deferred.save(packed)
            return packed
        record = self._cache.get(record.id) or record  # it may have been packed since it was looked at
        if self._is_somewhere(record):
            return _own(record)
        if not self._is_tree(record):
            raise NotFound(f"layer {record.id} is neither a blob nor a tree any more", hint="build it again")
        write = self._writer(record)
        made = pack(write, self._store, compression=chosen, oci=True, jobs=self._jobs, check=self._scope.check)
        self._cache.update(record.id, blob=made.descriptor, diff_id=made.diff_id)
        return Packed(made.descriptor, made.diff_id)

    def _is_tree(self, record: Record) -> bool:
        return record.snapshot is not None and self._snapshotter.stat(record.snapshot) is not None

    def _is_somewhere(self, record: Record) -> bool:
        """Whether the blob of `record` is here, whole, or can be fetched."""
        if record.blob is None or record.diff_id is None:
            return False
        return bool(record.remote) or record.blob.digest in self._places or self._store.has(record.blob)

    def _writer(self, record: Record) -> Callable[[Writable], None]:
        """What writes the change of a record that is a tree."""
        from knarr.layer import diff

        snapshot = record.snapshot or ""
        info = self._snapshotter.stat(snapshot)
        parent = info.parent if info else None
        upper = self._snapshotter.upper(snapshot)
        lowers = self._snapshotter.layers(parent) if parent else ()
        if upper is not None:
            return lambda out: diff.write_upper(upper, lowers, out)
        whole = self._snapshotter.layers(snapshot)[0]
        if not lowers:
            return lambda out: diff.write_tree(whole, out)
        return lambda out: diff.write_between(lowers, whole, out)

    def _rewriter(self, record: Record) -> Callable[[Writable], None]:
        """Recompress: the tar inside the existing blob, as it is.

        The snapshot would give another tar, if another program made the blob's.
        """

        def write(out: Writable) -> None:
            with self._open_tar(record) as stream:
                copy(stream, out, check=self._scope.check)

        return write

    @contextmanager
    def _open_tar(self, record: Record) -> Iterator[Readable]:
        """The tar inside the blob, without the table of an eStargz layer."""
        from knarr.layer.decompress import open_compressed
        from knarr.layer.estargz import without_table

        with self.open(record) as stream:
            yield open_compressed(without_table(stream))

    def pack_all(
        self,
        records: Sequence[Record],
        compression: Compression | None,
        *,
        kept: int = 0,
        max_mtime_s: int | None = None,
    ) -> Iterator[tuple[Record, Packed]]:
        """Pack several at once; yields them in order, each as soon as it and those before are ready.

        With `max_mtime_s` those after the first `kept` are clamped.
        """
        outcomes: list[tuple[Record, Outcome[Packed] | Packed]] = []
        for number, link in enumerate(records):
            if link.blob is not None and link.remote:
                self._remote[link.blob.digest] = link.remote
            if link.blob is not None and SHARED in link.history:
                self._shared[link.blob.digest] = link
            if max_mtime_s is not None and number >= kept:
                chosen = compression or _default()
                outcomes.append((link, self._scope.attempt(self._pack_clamped, link, chosen, max_mtime_s)))
                continue
            if self._is_somewhere(link) and (compression is None or _fits(link, compression)):
                outcomes.append((link, _own(link)))
            else:
                outcomes.append((link, self._scope.attempt(self.pack, link, compression)))
        for link, outcome in outcomes:
            yield link, outcome if isinstance(outcome, Packed) else outcome.result()

    def _pack_clamped(self, record: Record, compression: Compression, max_mtime_s: int) -> Packed:
        """The layer of `record` with no time later than `max_mtime_s`, and with BuildKit's note of it."""
        from knarr.layer.clamp import clamp

        self.pack(record, None)
        record = self._cache.get(record.id) or record

        def write(out: Writable) -> None:
            with self._open_tar(record) as stream:
                clamp(stream, out, max_mtime_s, check=self._scope.check)

        made = self._pack_variant(record, f"clamped-{max_mtime_s}", write, compression)
        return replace(made, descriptor=made.descriptor.with_annotations({REWRITTEN: str(max_mtime_s)}))

    def pack_squashed(
        self, top: Record, write: Callable[[Writable], None], compression: Compression, *, name: str
    ) -> Packed:
        """The layer that `write` makes of several below and including `top`; `name` tells which and how."""
        return self._pack_variant(top, f"squashed-{name}", write, compression)

    def _pack_variant(
        self, record: Record, name: str, write: Callable[[Writable], None], compression: Compression
    ) -> Packed:
        """What `write` writes, kept beside the record's own layer and found again under `name`."""
        from knarr.ops import layerforms

        key = layerforms.key(compression, name)

        def make() -> Packed:
            from knarr.layer.pack import pack

            known = layerforms.kept(self._cache.get(record.id) or record, key)
            if known is not None and self._store.has(known.descriptor):
                return known
            made = pack(write, self._store, compression=compression, jobs=self._jobs, check=self._scope.check)
            packed = Packed(made.descriptor, made.diff_id)
            self._note(record, key, packed)
            return packed

        return self._flights.once((record.id, key), make)

    def _note(self, record: Record, key: str, packed: Packed) -> None:
        """Remember another form of a layer, so that the next export finds it and garbage collection leaves it."""
        from knarr.ops import layerforms

        with self._notes:
            known = self._cache.get(record.id) or record
            self._cache.update(record.id, history={**known.history, key: layerforms.note(packed)})


def _default() -> Compression:
    from knarr.layer.compress import Compression

    return Compression()


def _own(known: Record) -> Packed:
    """The record's own blob."""
    if known.blob is None or known.diff_id is None:
        raise Bug(f"record {known.id} has no blob")
    return Packed(known.blob, known.diff_id)


def _fits(known: Record, compression: Compression) -> bool:
    """Whether the record's own blob may be exported where `compression` is wanted."""
    if known.blob is None:
        return False
    if (known.remote or SHARED in known.history) and not compression.force:
        return True  # a layer of a base image, or of a shared cache, keeps its form
    return _form(known.blob) == compression.kind and compression.level is None


def _form(blob: Descriptor) -> str:
    return _ESTARGZ if mediatype.TOC_DIGEST in blob.annotations else mediatype.compression_of(blob.media_type)
