"""The engine as a frontend outside of it sees it: the `Gateway` of one job.

A result is solved once, whoever looks at it first; the trees that were looked
into stay mounted until the gateway is closed, since a frontend asks for file after
file. What fails here fails for the frontend, which may go on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

from knarr.attest.capture import ImageUsed
from knarr.attest.provenance import Request
from knarr.builder import CacheEntry
from knarr.cache.record import RecordId
from knarr.engine import treefiles
from knarr.engine.asked import Asked
from knarr.engine.bridge import EngineBridge
from knarr.errors import Excerpt, KnarrError, NotFound, Span, Unsupported
from knarr.frontend.bridge import ResolvedImage
from knarr.frontend.gateway import Answer, Container, ContainerSpec, FileStatus, Ref, SourceState
from knarr.llb.ops import Edge, Graph, ResolveMode, SourceOp
from knarr.ops.images import Images
from knarr.progress import Warned
from knarr.scope import Flights, Scope
from knarr.session.session import LendsStores
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform, host_platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.engine.job import Job
    from knarr.frontend.sourcequestion import SourceQuestion
    from knarr.llb.sourcepolicy import SourcePolicy
    from knarr.ops.copytree import Tree

T = TypeVar("T")
_MODES: dict[str, ResolveMode] = {"": "default", "default": "default", "pull": "pull", "local": "local"}


class EngineGateway:
    """Implements `frontend.gateway.Gateway` for one job. Close it when no frontend of the job asks any more."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._records: dict[Edge, RecordId] = {}
        self._flights = Flights()
        self._lock = threading.Lock()
        self._mounts = ExitStack()
        self._trees: dict[RecordId, Tree] = {}
        self._bridges: dict[str, EngineBridge] = {}
        self.asked = Asked(Request())

    def below(self, request: Request) -> EngineGateway:
        """The same gateway for a frontend that is asked `request`: what it asks counts for that."""
        view = copy(self)
        view.asked = self.asked.below(request)
        return view

    def close(self) -> None:
        """Unmount what was looked into."""
        with self._lock:
            self._trees.clear()
            self._mounts.close()

    # --- results

    def solve(self, definition: bytes, policies: tuple[SourcePolicy, ...] = ()) -> Ref:
        from knarr.llb.decode import decode

        ref = Ref(self.job.governor.graph(decode(definition), policies), definition)
        self._gave(ref)
        return ref

    def governed(
        self, source: SourceOp, platform: Platform | None, policies: tuple[SourcePolicy, ...] = ()
    ) -> SourceOp:
        return self.job.governor.source(source, platform, policies)

    def _gave(self, ref: Ref) -> None:
        """Note a result that the question has led to, and whose it is should it become somebody's input."""
        self.asked.gave(ref)
        root = ref.graph.root
        asked = self.asked.who_gave(root) if root is not None else None
        if root is not None and asked is not None and asked.above is not None:
            from knarr.engine import provenance

            self.job.producers().add(root.digest, self.job, lambda: provenance.told(self.job, asked.request, ref.graph))

    def told(self, inputs: Mapping[str, bytes]) -> dict[str, Any]:
        """Who made the graphs `inputs`, as far as that is known."""
        from knarr.llb.decode import decode

        found: dict[str, Any] = {}
        for name, data in inputs.items():
            root = decode(data).root
            told = self.job.producers().of(root.digest) if root is not None else None
            if told is not None:
                found[name] = told
        return found

    def ask(self, frontend: str, options: Mapping[str, str], inputs: Mapping[str, bytes], *, scope: Scope) -> Answer:
        from knarr.engine import frontends

        mine = self.below(Request(frontend, dict(options), self.told(inputs)))
        answer = frontends.ask(mine, frontend, options, inputs, scope=scope)
        for ref in (*answer.refs.values(), *(one.ref for given in answer.attestations.values() for one in given)):
            if ref is not None:
                mine._gave(ref)
        return answer

    def evaluate(self, ref: Ref, *, scope: Scope) -> None:
        self.record(ref, scope)

    def record(self, ref: Ref, scope: Scope) -> RecordId | None:
        """The record of `ref`, solved now if it was not yet; None for scratch."""
        root = ref.graph.root
        if root is None:
            return None
        self.asked.evaluated(ref.graph)
        known = self._records.get(root)
        if known is None:
            known = self._flights.once(root, lambda: self._solved(ref.graph, root, scope))
        return known

    def _solved(self, graph: Graph, root: Edge, scope: Scope) -> RecordId:
        if root in self._records:
            return self._records[root]
        try:
            found = self.job.evaluate(graph, scope)
        except KnarrError as error:
            raise with_excerpt(error, graph) from error.__cause__
        assert found is not None  # only scratch has none
        self._records[root] = found
        return found

    # --- files

    def read_file(self, ref: Ref, path: str, *, offset: int, length: int | None, scope: Scope) -> bytes:
        return self._look(ref, path, scope, lambda tree: treefiles.read(tree, path, offset=offset, length=length))

    def list_directory(self, ref: Ref, path: str, *, pattern: str, scope: Scope) -> list[FileStatus]:
        return self._look(ref, path, scope, lambda tree: treefiles.entries(tree, path, pattern=pattern))

    def stat(self, ref: Ref, path: str, *, scope: Scope) -> FileStatus:
        return self._look(ref, path, scope, lambda tree: treefiles.status(tree, path))

    def _look(self, ref: Ref, path: str, scope: Scope, look: Callable[[Tree], T]) -> T:
        record = self.record(ref, scope)
        if record is None:
            raise NotFound(f"open {path}: no such file or directory", hint="the result is empty: FROM scratch")
        return look(self._flights.once(("tree", record), lambda: self._tree(record)))

    def _tree(self, record: RecordId) -> Tree:
        with self._lock:
            tree = self._trees.get(record)
        if tree is not None:
            return tree
        with ExitStack() as stack:
            tree = stack.enter_context(self.job.trees.readable(record))
            mounts = stack.pop_all()
        with self._lock:
            self._mounts.push(mounts)
            self._trees[record] = tree
        return tree

    # --- sources

    def resolve_image(self, reference: Reference, platform: Platform | None, *, mode: str) -> ResolvedImage:
        platform = platform or host_platform()
        return self._resolved(reference, platform, self.bridge(mode).image_config(reference, platform))

    def look_at_image(self, reference: Reference, platform: Platform | None, *, mode: str) -> ResolvedImage:
        """The same of an image that is not to be judged: it was, or it is looked at for a verdict."""
        platform = platform or host_platform()
        return self._resolved(reference, platform, self.bridge(mode).look(reference, platform))

    def _resolved(self, reference: Reference, platform: Platform, found: ResolvedImage) -> ResolvedImage:
        self.asked.resolved(ImageUsed(reference.tagged(), platform, found.digest))
        return found

    def resolve_layout(self, name: str, store: str, digest: Digest, platform: Platform) -> ResolvedImage:
        """An image of an OCI layout that the caller lends: see `LayoutBridge.layout_config`."""
        found = self.bridge().layout_config(name, store, digest, platform)
        self.asked.resolved(ImageUsed(found.reference.at(digest), platform, found.digest, local=True))
        return found

    def bridge(self, mode: str = "default") -> EngineBridge:
        """The bridge that resolves images by `mode`, each image once."""
        with self._lock:
            found = self._bridges.get(mode)
            if found is None:
                found = self._bridges[mode] = EngineBridge(
                    self._images(mode),
                    self.job.world.session,
                    self.job.world.sink,
                    self.job.world,
                    govern=self.job.governor.source if self.job.governs else None,
                )
            return found

    def _images(self, mode: str) -> Images:
        job = self.job
        if mode not in _MODES:
            raise Unsupported(f"images cannot be resolved by {mode!r}", hint="use default, pull or local")
        if _MODES[mode] in ("default", job.images.mode):
            return job.images
        return job.parts.images(_MODES[mode])

    def resolve_source(self, source: SourceOp, question: SourceQuestion) -> SourceState:
        from knarr.engine import sourcestate

        return sourcestate.of(self, source, question)

    def import_cache(self, kind: str, attrs: Mapping[str, str]) -> None:
        entry = CacheEntry(kind, dict(attrs))
        lent = kind == "local" and attrs.get("digest") and isinstance(self.job.world.session, LendsStores)
        if not lent and (kind != "registry" or not attrs.get("ref")):
            text = f"a shared cache of type {kind} cannot be read here: the build goes without it"
            return self.warn(Warned("shared cache", text))
        with self._lock:
            if entry not in self.job.cache_from:
                self.job.cache_from = (*self.job.cache_from, entry)
        return None

    def warn(self, warning: Warned) -> None:
        self.job.world.sink.send(warning)

    # --- containers

    def container(self, spec: ContainerSpec, *, scope: Scope) -> Container:
        from knarr.engine.containers import EngineContainer

        return EngineContainer(self, spec, scope)


def with_excerpt(error: KnarrError, graph: Graph) -> KnarrError:
    """`error` with the text that its place is in, as the graph brought it."""
    if error.span is not None:
        error.excerpt = error.excerpt or _excerpt(error.span, graph)
    error.further = tuple((span, excerpt or _excerpt(span, graph)) for span, excerpt in error.further)
    return error


def _excerpt(span: Span, graph: Graph) -> Excerpt | None:
    for source in graph.sources:
        if source.file == span.file:
            lines = source.data.decode(errors="replace").splitlines()
            return Excerpt(tuple(lines), source.data, source.definition, source.language)
    return None
