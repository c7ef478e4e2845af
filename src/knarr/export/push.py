"""Push an image while it is being made: layers go out as they become ready, names are set last.

A layer that a repository is known to have is not sent ahead: the image may be
there as a whole, and then one question at the end says so. When something else of
the image was missing it cannot be, and all layers are asked about at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from knarr.content.target import Fetcher, Report
from knarr.errors import Bug, RegistryError
from knarr.image.copy import PRESENT, CopyReport, MountsOf, Watch, copy_blob, copy_graph
from knarr.image.successors import is_document
from knarr.scope import Outcome, Scope
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import CHUNK, Readable

if TYPE_CHECKING:
    from knarr.content.sources import Sources
    from knarr.content.store import Store
    from knarr.export.assemble import Placed
    from knarr.export.trees import Layer
    from knarr.export.vertex import Vertex
    from knarr.remote.repository import Registry, Repository
    from knarr.spec.reference import Reference

_JOBS = 4  # transfers at a time: BuildKit's maxRegistryConcurrency
# A registry's ways to say that it does not take such a document; 500 is how some fail over an unknown platform.
_REFUSALS = (400, 404, 405, 406, 409, 415, 422, 500, 501)
_NOT_SEEN = {"MANIFEST_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}
_LATE_S = (0.1, 0.3, 1.0)  # registries behind several machines show what they were sent within a second or so
_MAX_MOUNTS = 3  # siblings asked for one blob: each costs a round trip


class Push:
    """One image on its way to all its names. Leaving the `with` block waits for what is under way, or stops it."""

    def __init__(
        self,
        names: Sequence[Reference],
        registry: Registry,
        store: Store,
        fetcher: Fetcher,
        scope: Scope,
        vertex: Vertex,
    ) -> None:
        self._store, self._fetcher, self._scope, self._vertex = store, fetcher, scope, vertex
        self._ahead = Scope(limit=_JOBS)
        self._remote: dict[Digest, tuple[str, ...]] = {}
        self._watch = _layers_only(vertex.watch("pushing layer"))
        self._parts: dict[str, _Part] = {}
        for name in names:
            repository = registry.repository(name, scope=scope)
            part = self._parts.setdefault(repository.name, _Part(repository))
            if name.tag not in part.tags:
                part.tags.append(name.tag)

    def __enter__(self) -> Push:
        self._stop = self._scope.on_cancel(self._ahead.cancel)
        self._stop.__enter__()
        self._ahead.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if error is not None:
                self._scope.cancel()  # a failed export fails the build; what blocks in a socket listens to this one
            self._ahead.__exit__(kind, error, tb)
        finally:
            self._stop.__exit__(kind, error, tb)

    def layer(self, layer: Layer) -> None:
        """Begin to send a layer that is ready."""
        self._remote[layer.descriptor.digest] = layer.remote
        self._begin(layer.descriptor)

    def _begin(self, blob: Descriptor) -> None:
        known = self._store.sources.of(blob.digest)
        for part in self._parts.values():
            if part.repository.name not in known:
                self._begin_part(blob, part)

    def _begin_part(self, blob: Descriptor, part: _Part) -> None:
        if blob.digest not in part.ahead:
            part.ahead[blob.digest] = self._ahead.start(self._send, blob, part)

    def _send(self, blob: Descriptor, part: _Part) -> None:
        how = copy_blob(self._fetcher, part.repository, blob, self._watch, self._mounts_of(part.repository.name))
        part.note(blob.digest, was_there=how == PRESENT)

    def finish(
        self,
        places: Callable[[str], Iterable[Placed]],
        layers: Sequence[Descriptor],
        configs: Sequence[Descriptor],
        took: Callable[[str, Placed], None] | None = None,
    ) -> Placed:
        """Send what is left, and set the tags (none: push by digest); what the first repository was given.

        `places` are the forms that a host may be given the image in, the next where it
        refuses one; `took` is told which it was.

        Raises:
            RegistryError, KnarrError: the first failure; no tag of that repository has moved then.
        """
        for config in configs:
            self._begin(config)
        for part in self._parts.values():
            for layer in layers if part.ahead else ():
                self._begin_part(layer, part)
        given: list[Placed] = []
        for part in self._parts.values():
            host = part.repository.name.partition("/")[0]
            placed = self._first_that_is_taken(part, host, places(host))
            given.append(placed)
            if took is not None:
                took(host, placed)
            self._store.sources.add(part.repository.name, [blob.digest for blob in (*layers, *configs)])
        return given[0]

    def _first_that_is_taken(self, part: _Part, host: str, places: Iterable[Placed]) -> Placed:
        refusal: RegistryError | None = None
        for placed in places:
            try:
                self._place(part, placed)
            except RegistryError as error:
                if error.status not in _REFUSALS:
                    raise
                refusal = refusal or error
                continue
            if refusal is not None:
                self._vertex.warn(f"{host} does not take attestations as entries of an index: {refusal.message}")
            return placed
        if refusal is None:
            raise Bug("an image has no form to be pushed in")
        raise refusal

    def _place(self, part: _Part, placed: Placed) -> None:
        """Push an image in one form: what runs, then what is said of it, then the names."""
        root = placed.root
        with self._vertex.phase("pushing layers"):
            is_there = self._complete(part, placed)
        for one in placed.beside:
            with self._vertex.phase(f"pushing attestation manifest {one.descriptor.digest}"):
                self._copy(part, _Target(part, root), one.descriptor, below_only=True)
                raw = self._store.read(one.descriptor)
                if one.tag:
                    from knarr.export.besidetag import push_beside_signed

                    push_beside_signed(part.repository, raw, one.tag)
                else:
                    part.repository.push_manifest(one.descriptor, raw)
        raw = self._store.read(root.bare())
        for tag in part.tags:
            if tag or not is_there:
                name = f"{part.repository.name}{f':{tag}' if tag else ''}@{root.digest}"
                with self._vertex.phase(f"pushing manifest for {name}"):
                    self._push_root(part, root.bare(), raw, tag)

    def _push_root(self, part: _Part, root: Descriptor, raw: bytes, tag: str) -> None:
        """Push the root; a registry that does not see yet what it was just sent is asked again."""
        for wait_s in (*_LATE_S, None):
            try:
                part.repository.push_manifest(root, raw, tag=tag)
                return
            except RegistryError as error:
                if wait_s is None or not _NOT_SEEN.intersection(error.codes):
                    raise
                self._scope.sleep(wait_s)

    def _complete(self, part: _Part, placed: Placed) -> bool:
        """Send everything below the root that is not there; whether the root itself was there."""
        for outcome in part.ahead.values():
            outcome.result()
        root = placed.root
        target = _Target(part, root, lists=placed.lists)
        if placed.first:
            if target.has(root):
                return True
            part.lacked_some = True
            for manifest in placed.first:
                if manifest.digest != root.digest or placed.beside:
                    self._copy(part, target, manifest.bare())
                    part.sent.add(manifest.digest)
        report = self._copy(part, target, root.bare(), below_only=True)
        return any(found.digest == root.digest for found in report.present)

    def _copy(self, part: _Part, target: _Target, root: Descriptor, *, below_only: bool = False) -> CopyReport:
        return copy_graph(
            self._fetcher,
            target,
            root,
            scope=self._scope,
            jobs=_JOBS,
            watch=self._watch,
            mounts_of=self._mounts_of(part.repository.name),
            below_only=below_only,
        )

    def _mounts_of(self, place: str) -> MountsOf:
        return siblings(place, self._store.sources, self._remote)


def siblings(place: str, sources: Sources, remote: dict[Digest, tuple[str, ...]] | None = None) -> MountsOf:
    """The repositories on the registry of `place` ("host/repo") that are known to have a blob.

    `remote` tells of some blobs what `sources` may not know.
    """
    host = place.partition("/")[0]

    def mounts(blob: Descriptor) -> list[str]:
        known = dict.fromkeys((*(remote or {}).get(blob.digest, ()), *sources.of(blob.digest)))
        return [name[len(host) + 1 :] for name in known if name.startswith(f"{host}/") and name != place][:_MAX_MOUNTS]

    return mounts


def _layers_only(watch: Watch) -> Watch:
    def about(descriptor: Descriptor, done: int, how: str) -> None:
        if mediatype.is_layer(descriptor.media_type):
            watch(descriptor, done, how)

    return about


class _Part:
    """The push to one repository."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.tags: list[str] = []
        self.ahead: dict[Digest, Outcome[None]] = {}
        self.sent: set[Digest] = set()
        self.lacked_some = False
        self._lock = threading.Lock()

    def note(self, digest: Digest, *, was_there: bool) -> None:
        with self._lock:
            self.sent.add(digest)
            self.lacked_some |= not was_there


class _Target:
    """A repository that is not asked about blobs it was just sent, nor about a root that it cannot have."""

    def __init__(self, part: _Part, root: Descriptor, *, lists: bool = True) -> None:
        self._part, self._root, self._lists = part, root, lists
        self.mount_from = part.repository.mount_from

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self._part.repository.open(descriptor)

    def has(self, descriptor: Descriptor) -> bool:
        if descriptor.digest == self._root.digest and self._part.lacked_some:
            return False
        return descriptor.digest in self._part.sent or self._part.repository.has(descriptor)

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        if not self._lists and is_document(descriptor.media_type):
            raw = b"".join(iter(lambda: content.read(CHUNK), b""))
            self._part.repository.push_manifest(descriptor, raw, lists=False)
            return
        self._part.repository.push(descriptor, content, report=report)
