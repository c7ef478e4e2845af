"""Push an image while it is being made: layers go out as they become ready, names are set last.

A layer that a repository is known to have is not sent ahead: the image may be
there as a whole, and then one question at the end says so. When something else of
the image was missing it cannot be, and all layers are asked about at once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from knarr.content.target import Fetcher, Report
from knarr.image.copy import PRESENT, MountsOf, Watch, copy_blob, copy_graph
from knarr.scope import Outcome, Scope
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import Readable

if TYPE_CHECKING:
    from knarr.content.sources import Sources
    from knarr.content.store import Store
    from knarr.export.trees import Layer
    from knarr.export.vertex import Vertex
    from knarr.remote.repository import Registry, Repository
    from knarr.spec.reference import Reference

_JOBS = 4  # transfers at a time: BuildKit's maxRegistryConcurrency
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

    def finish(self, root: Descriptor, layers: Sequence[Descriptor], configs: Sequence[Descriptor]) -> None:
        """Send what is left, and set the tags (none: push by digest).

        Raises:
            RegistryError, KnarrError: the first failure; no tag of that repository has moved then.
        """
        for config in configs:
            self._begin(config)
        raw = self._store.read(root.bare())
        for part in self._parts.values():
            for layer in layers if part.ahead else ():
                self._begin_part(layer, part)
        for part in self._parts.values():
            with self._vertex.phase("pushing layers"):
                is_there = self._complete(part, root)
            for tag in part.tags:
                if tag or not is_there:
                    name = f"{part.repository.name}{f':{tag}' if tag else ''}@{root.digest}"
                    with self._vertex.phase(f"pushing manifest for {name}"):
                        part.repository.push_manifest(root.bare(), raw, tag=tag)
            self._store.sources.add(part.repository.name, [blob.digest for blob in (*layers, *configs)])

    def _complete(self, part: _Part, root: Descriptor) -> bool:
        """Send everything below `root` that is not there; whether `root` itself was there."""
        for outcome in part.ahead.values():
            outcome.result()
        report = copy_graph(
            self._fetcher,
            _Target(part, root),
            root.bare(),
            scope=self._scope,
            jobs=_JOBS,
            watch=self._watch,
            mounts_of=self._mounts_of(part.repository.name),
            below_only=True,
        )
        return any(found.digest == root.digest for found in report.present)

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

    def __init__(self, part: _Part, root: Descriptor) -> None:
        self._part, self._root = part, root
        self.mount_from = part.repository.mount_from

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self._part.repository.open(descriptor)

    def has(self, descriptor: Descriptor) -> bool:
        if descriptor.digest == self._root.digest and self._part.lacked_some:
            return False
        return descriptor.digest in self._part.sent or self._part.repository.has(descriptor)

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        self._part.repository.push(descriptor, content, report=report)
