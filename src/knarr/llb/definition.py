"""The definition: a graph of vertices as the bytes that travel. `decode` goes the other way.

A `pb.Definition` is a list of marshalled ops, each known by the sha256 of its
bytes, and beside them metadata and source locations by digest. The last op is a
bare pointer: one input, and nothing else.

    data = encode(Graph({v.digest: v}, Edge(v.digest)))

Spec: BuildKit's client/llb/state.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from knarr.errors import Span
from knarr.llb import caps, ops
from knarr.llb.ops import Edge, Graph, Metadata, SourceText, Vertex
from knarr.llb.protobuf import data, flag, mapping, member, message, messages, number, optional, text, textmap
from knarr.llb.wire import encode_op
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

UNSAID = Metadata()


def vertex(
    op: ops.Op,
    inputs: tuple[Edge, ...] = (),
    *,
    platform: Platform | None = None,
    metadata: Metadata = UNSAID,
    spans: tuple[Span, ...] = (),
    filters: tuple[str, ...] = (),
) -> Vertex:
    """A vertex with its bytes and its digest computed."""
    raw = encode_op(op, inputs, platform, filters)
    return Vertex(Digest.of(raw), op, inputs, platform, metadata, spans, filters, raw)


def encode(graph: Graph) -> bytes:
    """The graph as deterministic `pb.Definition` bytes; no bytes at all for scratch."""
    if graph.root is None:
        return b""
    vertices = graph.vertices.values()
    needed = {caps.CONSTRAINTS, caps.PLATFORM, *(cap for v in vertices for cap in _metadata_caps(v.metadata))}
    pointer = encode_op(None, (graph.root,))
    metadata = {v.digest: _metadata(v.metadata) for v in vertices} | {Digest.of(pointer): _caps(needed)}
    return (
        b"".join([message(1, v.raw) for v in vertices])
        + message(1, pointer)
        + mapping(2, metadata, message)
        + data(3, _sources(graph))
    )


def _metadata_caps(metadata: Metadata) -> Iterator[str]:
    if metadata.ignore_cache:
        yield caps.META_IGNORE_CACHE
    if metadata.description:
        yield caps.META_DESCRIPTION
    if metadata.export_cache is not None:
        yield caps.META_EXPORT_CACHE


def _metadata(metadata: Metadata) -> bytes:
    return (
        flag(1, metadata.ignore_cache)
        + textmap(2, metadata.description)
        + optional(4, _export_cache, metadata.export_cache)
        + _caps(metadata.caps)
        + optional(6, _group, metadata.progress_group)
        + optional(7, _resources, metadata.resources)
    )


def _export_cache(value: bool) -> bytes:
    return flag(1, value)


def _group(group: ops.ProgressGroup) -> bytes:
    return text(1, group.id) + text(2, group.name) + flag(3, group.weak)


def _resources(limits: ops.LinuxResources) -> bytes:
    return (
        number(1, limits.memory_bytes)
        + number(2, limits.memory_swap_bytes)
        + number(3, limits.cpu_shares)
        + number(4, limits.cpu_period_us)
        + number(5, limits.cpu_quota_us)
        + text(6, limits.cpuset_cpus)
        + text(7, limits.cpuset_mems)
    )


def _caps(needed: Iterable[str]) -> bytes:
    return mapping(5, dict.fromkeys(needed, 1), member)


def _sources(graph: Graph) -> bytes:
    known = {source.file: index for index, source in enumerate(graph.sources)}
    places: dict[str, bytes] = {}
    for v in graph.vertices.values():
        found = [_location(known[span.file], span) for span in v.spans if span.file in known]
        if found:
            places[v.digest] = b"".join(found)
    return mapping(1, places, message) + messages(2, _source_text, graph.sources)


def _location(source: int, span: Span) -> bytes:
    start = number(1, span.first) + number(2, span.column)
    lines = message(1, start) + message(2, number(1, span.last))
    return message(1, number(1, source) + message(2, lines))


def _source_text(source: SourceText) -> bytes:
    loaded = message(3, source.definition) if source.definition else b""
    return text(1, source.file) + data(2, source.data) + loaded + text(4, source.language)
