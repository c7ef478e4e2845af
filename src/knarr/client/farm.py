"""Several builders as one: each platform is built on the node that has it, and one index is made of the results.

    Farm(nodes, store, registry).solve(request, session, sink)

Every node gets its own share of the request, with the same session. What is pushed is
pushed by digest, from where it was made; the tag is set last, on the index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from knarr.builder import Export, SolveResult
from knarr.client.asked import OWN_STORE
from knarr.errors import ContentError, Unsupported
from knarr.image.combine import Part, combine
from knarr.image.copy import copy_graph
from knarr.image.successors import read_document
from knarr.record import record, replace
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.builder import SolveRequest
    from knarr.client.builder import RemoteBuilder
    from knarr.content.store import Store
    from knarr.content.target import Fetcher
    from knarr.progress import Sink
    from knarr.remote.repository import Registry, Repository
    from knarr.session.session import Session
    from knarr.spec.manifest import Index, Manifest
    from knarr.spec.platform import Platform

_PUSHED = ("image", "registry")
_FALSE = ("false", "0", "f", "F", "FALSE", "False")


@record
class FarmNode:
    """A builder with its name. `platforms` are those that it is to build; none: those that it says."""

    name: str
    builder: RemoteBuilder
    platforms: tuple[Platform, ...] = ()


class Farm:
    """Implements `builder.Builder` with several of them."""

    def __init__(self, nodes: Sequence[FarmNode], store: Callable[[], Store], registry: Callable[[], Registry]) -> None:
        """`store` is where images are loaded, `registry` where indexes are pushed: both are opened when needed."""
        self._nodes = tuple(nodes)
        self._store = store
        self._registry = registry

    def solve(self, request: SolveRequest, session: Session, sink: Sink, *, scope: Scope | None = None) -> SolveResult:
        """Build every platform on its node, all at once; the first failure cancels the others.

        Raises:
            Unsupported: an output that cannot be put together from several nodes.
            KnarrError: a node cannot be reached, or its build failed.
        """
        shares = spread(request.frontend.platforms, self._nodes, lambda node: node.builder.platforms())
        if len(shares) < 2:
            node = next(iter(shares), self._nodes[0])
            return node.builder.solve(request, session, sink, scope=scope)
        _check(request)
        with Scope() as own, (scope or Scope()).on_cancel(own.cancel):
            outcomes = [
                own.start(node.builder.solve, _share(request, platforms), session, sink, scope=own)
                for node, platforms in shares.items()
            ]
            results = [outcome.result() for outcome in outcomes]
            return self._joined(request, results, own)

    def ask(
        self, request: SolveRequest, session: Session, sink: Sink, question: str, *, scope: Scope | None = None
    ) -> Mapping[str, bytes]:
        """The answer of the first node: see `RemoteBuilder.ask`."""
        return self._nodes[0].builder.ask(request, session, sink, question, scope=scope)

    def _joined(self, request: SolveRequest, results: Sequence[SolveResult], scope: Scope) -> SolveResult:
        """One index of what the nodes made, wherever it went."""
        told = [result.metadata.get("containerimage.descriptor") for result in results]
        images = [export for export in request.exports if export.type in (*_PUSHED, OWN_STORE)]
        if not images:
            return SolveResult(None, None, {})
        if not all(isinstance(root, dict) for root in told):
            raise ContentError("not every node tells which image it has made", hint="update the nodes' daemons")
        descriptors = [Descriptor.from_json(root) for root in told if root is not None]
        made: Manifest | Index | None = None
        names: list[str] = []
        pushed: Repository | None = None
        for export in sorted(images, key=lambda export: export.type == OWN_STORE):
            references = _names(export)
            names += map(str, references)
            if export.type == OWN_STORE:
                made = self._keep(references, descriptors, pushed, scope)
            for reference in references if export.type != OWN_STORE else ():
                pushed = self._registry().repository(reference, scope=scope)
                made = _push(export, reference, descriptors, pushed)
        if made is None:
            raise ContentError("there is no index to be made")
        metadata: dict[str, Any] = {
            "containerimage.digest": str(made.descriptor.digest),
            "containerimage.descriptor": made.descriptor.to_json(),
        }
        if names:
            metadata["image.name"] = ",".join(dict.fromkeys(names))
        return SolveResult(made.descriptor.digest, None, metadata)

    def _keep(
        self, names: Sequence[Reference], roots: Sequence[Descriptor], pushed: Repository | None, scope: Scope
    ) -> Manifest | Index:
        """The index of `roots` in the own store: loaded there, or `pushed` and taken from there."""
        store = self._store()
        index = _index(pushed or store, roots)
        if pushed is not None:
            for root in roots:
                copy_graph(pushed, store, root, scope=scope)
        descriptor = store.put(index.media_type, index.raw)
        for name in names:
            store.tag(descriptor.bare(), str(name))
        return index


def _push(
    export: Export, reference: Reference, roots: Sequence[Descriptor], repository: Repository
) -> Manifest | Index:
    """The index of `roots`, which are in the repository, under the tag of `reference`."""
    index = _index(repository, roots)
    by_digest = export.attrs.get("push-by-digest", "false") not in _FALSE
    repository.push_manifest(index.descriptor.bare(), index.raw, tag="" if by_digest else reference.tag)
    return index


def spread(
    platforms: Sequence[Platform],
    nodes: Sequence[FarmNode],
    said: Callable[[FarmNode], Sequence[Platform]],
) -> dict[FarmNode, tuple[Platform, ...]]:
    """Which node builds what. `said` asks a node, which is done only for those that were not told.

    A platform goes to the first node that was told to build it; else to the first whose own it is; else to the
    first that can build it at all; else to the first node, which then says why not.
    """
    if not platforms:
        return {}
    told = {node: node.platforms or tuple(said(node)) for node in nodes}
    shares: dict[FarmNode, tuple[Platform, ...]] = {}
    for platform in platforms:
        order = (
            [node for node in nodes if platform in node.platforms],
            [node for node in nodes if not node.platforms and told[node][:1] == (platform,)],
            [node for node in nodes if platform in told[node]],
            list(nodes),
        )
        node = next(found[0] for found in order if found)
        shares[node] = (*shares.get(node, ()), platform)
    return shares


def _check(request: SolveRequest) -> None:
    """What several nodes cannot make together is refused by name."""
    for export in request.exports:
        pushes = export.attrs.get("push", "true" if export.type == "registry" else "false") not in _FALSE
        if export.type in ("oci", "docker", "tar") or (export.type == "image" and not pushes):
            raise Unsupported(
                f"type={export.type}: the nodes of a builder cannot write one output together",
                hint="load the image (--load) and use `knarr save`, or push it; or build on one node",
            )
        if any(key.startswith("annotation-index") for key in export.attrs):
            raise Unsupported(
                "annotations of an index that several nodes make are not set",
                hint="set them afterwards: knarr imagetools create --annotation",
            )
    if any(entry.type != "inline" for entry in request.cache_to):
        raise Unsupported(
            "--cache-to: the nodes of a builder would write over each other's cache",
            hint="build each platform by itself, with a cache of its own; or use type=inline",
        )


def _share(request: SolveRequest, platforms: tuple[Platform, ...]) -> SolveRequest:
    """What one node is asked for. What is pushed is loaded from where it was pushed to: it has to be the same image."""
    pushes = any(export.type in _PUSHED for export in request.exports)
    return replace(
        request,
        frontend=replace(request.frontend, platforms=platforms),
        exports=tuple(_part_of(export) for export in request.exports if not (pushes and export.type == OWN_STORE)),
    )


def _part_of(export: Export) -> Export:
    attrs = dict(export.attrs)
    if export.type == "local":
        return Export("local", {**attrs, "platform-split": attrs.get("platform-split", "true")})
    if export.type == OWN_STORE:
        attrs.pop("name", None)
        return Export(OWN_STORE, attrs)
    if export.type in _PUSHED:
        places = dict.fromkeys(f"{name.registry}/{name.repository}" for name in _names(export))
        return Export(export.type, {**attrs, "name": ",".join(places), "push": "true", "push-by-digest": "true"})
    return export


def _names(export: Export) -> list[Reference]:
    return [Reference.parse(name).tagged() for name in export.attrs.get("name", "").split(",") if name]


def _index(place: Fetcher, roots: Sequence[Descriptor]) -> Manifest | Index:
    # Notes of one node's exporter are no notes of the image.
    plain = [replace(root, annotations={}) for root in roots]
    return combine([Part(root, read_document(place, root), str(root.digest)) for root in plain]).document
