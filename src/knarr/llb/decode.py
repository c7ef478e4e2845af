"""The bytes of a definition back to a graph, checked.

Decoding keeps every op's exact bytes in `Vertex.raw`, so a graph that only travels
through keeps its digests even where a newer writer used fields that are unknown here.

    graph = decode(definition.encode(graph))

Spec: BuildKit's solver/llbsolver/vertex.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from knarr.errors import ContentError, Span
from knarr.llb import ops
from knarr.llb.definition import UNSAID
from knarr.llb.ops import Edge, Graph, Metadata, SourceText, Vertex
from knarr.llb.parse import Message, read_inputs, read_op, read_platform
from knarr.pb import ops_pb2 as pb
from knarr.spec.digest import Digest

Parsed = tuple[Digest, bytes, Message]


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
    outputs = _output_count(vertices[edge.digest].op)
    if not 0 <= edge.index < outputs:
        raise ContentError(f"{reader} reads output {edge.index} of LLB vertex {edge.digest}, which has {outputs}")


def _output_count(op: ops.Op) -> int:
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


def _read_sources(message: Message) -> tuple[tuple[SourceText, ...], dict[str, tuple[Span, ...]]]:
    infos = tuple(
        SourceText(info.filename, info.data, info.language, info.definition.SerializeToString(deterministic=True))
        for info in message.infos
    )
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
