"""The definition: a graph of vertices as the bytes that travel, and back.

A `pb.Definition` is a list of marshalled ops, each known by the sha256 of its
bytes, and beside them metadata and source locations by digest. The last op is a
bare pointer: one input, and nothing else. Decoding keeps every op's exact bytes
in `Vertex.raw`, so a graph that only travels through keeps its digests even
where a newer writer used fields that are unknown here.

    graph = decode(encode(graph))

Spec: BuildKit's client/llb/state.go and solver/llbsolver/vertex.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from knarr.errors import ContentError, Span
from knarr.llb import caps, ops
from knarr.llb.ops import Edge, Graph, Metadata, SourceText, Vertex
from knarr.llb.wire import Message, encode_op, read_inputs, read_op, read_platform
from knarr.pb import ops_pb2 as pb
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

UNSAID = Metadata()
Parsed = tuple[Digest, bytes, Message]


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
    message = pb.Definition()
    used = {caps.CONSTRAINTS, caps.PLATFORM}
    for v in graph.vertices.values():
        getattr(message, "def").append(v.raw)
        _write_metadata(v.metadata, message.metadata[v.digest])
        used.update(_metadata_caps(v.metadata))
    pointer = encode_op(None, (graph.root,))
    getattr(message, "def").append(pointer)
    _write_caps(used, message.metadata[Digest.of(pointer)])
    _write_sources(graph, message.Source)
    return bytes(message.SerializeToString(deterministic=True))


def decode(data: bytes) -> Graph:
    """Read and check a definition: every input is there and in range, nothing reads itself.

    Vertices that the root does not reach are left out.

    Raises:
        ContentError: not a definition, or one that cannot be solved.
    """
    try:
        message = pb.Definition.FromString(data)
        parsed = [(raw, pb.Op.FromString(raw)) for raw in getattr(message, "def")]
    except DecodeError as error:
        raise ContentError("these bytes are not an LLB definition", hint="`knarr debug llb` writes one") from error
    if not parsed:
        return Graph({}, None)
    root = _root(parsed[-1][1])
    found: dict[str, Parsed] = {digest: (digest, raw, op) for raw, op in parsed[:-1] if (digest := Digest.of(raw))}
    sources, spans = _read_sources(message.Source)
    vertices: dict[Digest, Vertex] = {}
    known: dict[str, Digest] = {}
    for digest, raw, op in _inputs_first(root.digest, found):
        known[digest] = digest
        vertices[digest] = _read_vertex(digest, raw, op, known, message.metadata, spans.get(digest, ()))
    for v in vertices.values():
        _check_vertex(v, vertices)
    _check_edge(root, vertices, "the result")
    return Graph(vertices, root, sources)


def _root(pointer: Message) -> Edge:
    if len(pointer.inputs) != 1 or pointer.WhichOneof("op") is not None:
        raise ContentError("an LLB definition must end with a bare pointer to its result")
    return Edge(Digest.parse(pointer.inputs[0].digest), pointer.inputs[0].index)


def _inputs_first(root: Digest, found: Mapping[str, Parsed]) -> Iterator[Parsed]:
    """What `root` reaches, inputs before those who read them. Iterative: graphs can be thousands deep."""
    done: set[str] = set()
    open_: set[str] = set()
    stack: list[tuple[str, bool]] = [(root, False)]
    while stack:
        digest, inputs_done = stack.pop()
        if inputs_done:
            open_.discard(digest)
            done.add(digest)
            yield found[digest]
            continue
        if digest in done:
            continue
        if digest in open_:
            raise ContentError(f"LLB vertex {digest} reads its own output")
        if digest not in found:
            raise ContentError(f"the LLB definition lacks vertex {digest}")
        open_.add(digest)
        stack.append((digest, True))
        stack.extend((edge.digest, False) for edge in reversed(found[digest][2].inputs) if edge.digest not in done)


def _read_vertex(
    digest: Digest,
    raw: bytes,
    message: Message,
    known: Mapping[str, Digest],
    metadata: Mapping[str, Message],
    spans: tuple[Span, ...],
) -> Vertex:
    op = read_op(message)
    if op is None:
        raise ContentError(f"LLB vertex {digest} has no op, or one of a kind that is not known here")
    given = _read_metadata(metadata[digest]) if digest in metadata else UNSAID
    inputs, platform = read_inputs(message, known), read_platform(message)
    return Vertex(digest, op, inputs, platform, given, spans, tuple(message.constraints.filter), raw)


def _check_vertex(v: Vertex, vertices: Mapping[Digest, Vertex]) -> None:
    for edge in v.inputs:
        _check_edge(edge, vertices, f"vertex {v.digest}")
    for index, limit in _input_indexes(v.op, len(v.inputs)):
        if not ops.NO_INPUT <= index < limit:
            raise ContentError(f"LLB vertex {v.digest} reads input {index}, and has {len(v.inputs)}")


def _check_edge(edge: Edge, vertices: Mapping[Digest, Vertex], reader: str) -> None:
    outputs = output_count(vertices[edge.digest].op)
    if not 0 <= edge.index < outputs:
        raise ContentError(f"{reader} reads output {edge.index} of LLB vertex {edge.digest}, which has {outputs}")


def output_count(op: ops.Op) -> int:
    """How many outputs a vertex of `op` has."""
    if isinstance(op, ops.ExecOp):
        return 1 + max((mount.output for mount in op.mounts), default=0)
    if isinstance(op, ops.FileOp):
        return 1 + max((action.output for action in op.actions), default=0)
    return len(op.outputs) if isinstance(op, ops.PassthroughOp) else 1


def _input_indexes(op: ops.Op, inputs: int) -> Iterator[tuple[int, int]]:
    """Every input index that `op` mentions, with the bound it must stay under."""
    if isinstance(op, ops.ExecOp):
        # A secret or an ssh mount has no input, and writers leave a number there.
        for mount in op.mounts:
            yield (mount.input if mount.secret is None and mount.ssh is None else ops.NO_INPUT), inputs
    elif isinstance(op, ops.FileOp):
        for done, link in enumerate(op.actions):
            yield link.input, inputs + done
            yield link.secondary_input, inputs + done
            owner = None if isinstance(link.action, ops.Rm) else link.action.owner
            for user in (owner.user, owner.group) if owner else ():
                yield (user.input if user and user.name else ops.NO_INPUT), inputs
    else:
        for index in _plain_indexes(op):
            yield index, inputs


def _plain_indexes(op: ops.Op) -> Iterable[int]:
    if isinstance(op, ops.MergeOp):
        return op.inputs
    if isinstance(op, ops.DiffOp):
        return (op.lower, op.upper)
    if isinstance(op, ops.BuildOp):
        return (op.builder, *op.inputs.values())
    return op.outputs if isinstance(op, ops.PassthroughOp) else ()


def _metadata_caps(metadata: Metadata) -> Iterator[str]:
    if metadata.ignore_cache:
        yield caps.META_IGNORE_CACHE
    if metadata.description:
        yield caps.META_DESCRIPTION
    if metadata.export_cache is not None:
        yield caps.META_EXPORT_CACHE


def _write_metadata(metadata: Metadata, message: Message) -> None:
    message.ignore_cache = metadata.ignore_cache
    message.description.update(metadata.description)
    if metadata.export_cache is not None:
        message.export_cache.Value = metadata.export_cache
        message.export_cache.SetInParent()
    _write_caps(metadata.caps, message)
    group = metadata.progress_group
    if group is not None:
        message.progress_group.CopyFrom(pb.ProgressGroup(id=group.id, name=group.name, weak=group.weak))
    limits = metadata.resources
    if limits is not None:
        message.linux_resources.CopyFrom(
            pb.LinuxResources(
                memory=limits.memory_bytes,
                memorySwap=limits.memory_swap_bytes,
                cpuShares=limits.cpu_shares,
                cpuPeriod=limits.cpu_period_us,
                cpuQuota=limits.cpu_quota_us,
                cpusetCpus=limits.cpuset_cpus,
                cpusetMems=limits.cpuset_mems,
            )
        )


def _write_caps(needed: Iterable[str], message: Message) -> None:
    for cap in needed:
        message.caps[cap] = True


def _read_metadata(message: Message) -> Metadata:
    group = message.progress_group if message.HasField("progress_group") else None
    limits = message.linux_resources if message.HasField("linux_resources") else None
    return Metadata(
        message.ignore_cache,
        dict(message.description),
        message.export_cache.Value if message.HasField("export_cache") else None,
        tuple(sorted(cap for cap, needed in message.caps.items() if needed)),
        group and ops.ProgressGroup(group.id, group.name, group.weak),
        limits
        and ops.LinuxResources(
            limits.memory,
            limits.memorySwap,
            limits.cpuShares,
            limits.cpuPeriod,
            limits.cpuQuota,
            limits.cpusetCpus,
            limits.cpusetMems,
        ),
    )


def _write_sources(graph: Graph, message: Message) -> None:
    index = {source.file: number for number, source in enumerate(graph.sources)}
    for source in graph.sources:
        message.infos.add(filename=source.file, data=source.data, language=source.language)
    for v in graph.vertices.values():
        for span in v.spans:
            if span.file in index:
                place = message.locations[v.digest].locations.add(sourceIndex=index[span.file])
                place.ranges.add(
                    start=pb.Position(line=span.first, character=span.column), end=pb.Position(line=span.last)
                )


def _read_sources(message: Message) -> tuple[tuple[SourceText, ...], dict[str, tuple[Span, ...]]]:
    infos = tuple(SourceText(info.filename, info.data, info.language) for info in message.infos)
    spans: dict[str, tuple[Span, ...]] = {}
    for digest, places in message.locations.items():
        read: list[Span] = []
        for place in places.locations:
            if not 0 <= place.sourceIndex < len(infos):
                raise ContentError(f"LLB vertex {digest} was written in source {place.sourceIndex}, which is not there")
            read.extend(_read_ranges(place.ranges, infos[place.sourceIndex].file))
        spans[digest] = tuple(read)
    return infos, spans


def _read_ranges(ranges: Iterable[Any], file: str) -> Iterator[Span]:
    """One span per run of lines: BuildKit's frontend writes a range for every single line."""
    first = last = column = 0
    for r in ranges:
        if first and r.start.line == last + 1:
            last = max(last, r.end.line)
            continue
        if first:
            yield Span(file, first, last, column)
        first, last, column = r.start.line, max(r.start.line, r.end.line), r.start.character
    if first:
        yield Span(file, first, last, column)
