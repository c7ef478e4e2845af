"""A graph as provenance tells it: ops in the JSON that BuildKit's Go structs have, steps numbered inputs first.

    config, numbers = build_config(graph)     # {"llbDefinition": [{"id": "step0", "op": {…}}, …], "digestMapping": {…}}

Go writes the members of a message in the order of their declaration, by the names
they have in the .proto, and leaves out zeros; three kinds of messages have a form of
their own (solver/pb/json.go), and so have they here.
Spec: BuildKit's solver/llbsolver/provenance/buildconfig.go at v0.33.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from knarr.errors import Span
from knarr.llb.ops import Edge, Graph, SourceText
from knarr.llb.wire import encode_op
from knarr.pb import ops_pb2 as pb
from knarr.record import record
from knarr.spec.digest import Digest

JSON = dict[str, Any]
_OPS = ("exec", "source", "file", "build", "merge", "diff", "passthrough")
_ACTIONS = ("copy", "mkfile", "mkdir", "rm")  # a symlink has no form there
_LOCAL = ("local.session", "local.unique")  # another with each run


def build_config(graph: Graph) -> tuple[JSON, dict[Digest, int]]:
    """All steps of `graph`, and the number of each vertex; the last step is the pointer to the result."""
    if graph.root is None:
        return {}, {}
    pointer = encode_op(None, (graph.root,))
    order = [*_inputs_first(graph, graph.root), Digest.of(pointer)]
    numbers = {digest: number for number, digest in enumerate(order)}
    steps = []
    for digest, number in numbers.items():
        raw = graph.vertices[digest].raw if digest in graph.vertices else pointer
        op: Any = pb.Op.FromString(raw)
        if op.HasField("source"):
            for key in _LOCAL:
                op.source.attrs.pop(key, None)
        step: JSON = {"id": f"step{number}", "op": _op(op)}
        inputs = [f"step{numbers[Digest(edge.digest)]}:{edge.index}" for edge in op.inputs]
        if inputs:
            step["inputs"] = inputs
        steps.append(step)
    mapping = {str(digest): f"step{numbers[digest]}" for digest in sorted(numbers)}
    return {"llbDefinition": steps, "digestMapping": mapping}, numbers


@record
class Text:
    """A text that a graph was made from: by its name, and the graph that it was read by."""

    source: SourceText
    name: str
    loaded: Graph


def source_info(graph: Graph, numbers: Mapping[Digest, int], texts: Sequence[Text]) -> JSON | None:
    """The texts that a graph was made from, and where in them each step stands."""
    if not texts:
        return None
    known = {text.source.file: index for index, text in enumerate(texts)}
    locations = {
        f"step{numbers[digest]}": _locations(graph.vertices[digest].spans, known)
        for digest in numbers
        if digest in graph.vertices
    }
    infos = []
    for text in texts:
        info: JSON = {"filename": text.name}
        if text.source.language:
            info["language"] = text.source.language
        info["data"] = base64.b64encode(text.source.data).decode()
        infos.append(info | build_config(text.loaded)[0])
    return {"locations": dict(sorted(locations.items())), "infos": infos}


def _inputs_first(graph: Graph, root: Edge) -> list[Digest]:
    """What `root` needs, depth first and inputs before those who read them. Iterative: graphs can be deep."""
    done: dict[Digest, None] = {}
    stack: list[tuple[Digest, bool]] = [(root.digest, False)]
    while stack:
        digest, inputs_done = stack.pop()
        if digest in done:
            continue
        if inputs_done:
            done[digest] = None
            continue
        stack.append((digest, True))
        stack += [(edge.digest, False) for edge in reversed(graph.vertices[digest].inputs)]
    return list(done)


def _locations(spans: tuple[Span, ...], known: Mapping[str, int]) -> JSON:
    found = []
    for span in spans:
        if span.file not in known:
            continue
        place: JSON = {"sourceIndex": known[span.file]} if known[span.file] else {}
        place["ranges"] = [  # one for each line, as BuildKit's frontend writes them
            {"start": {"line": line, **({"character": span.column} if span.column else {})}, "end": {"line": line}}
            for line in range(span.first, span.last + 1)
        ]
        found.append(place)
    return {"locations": found} if found else {}


# --- messages


def _op(op: Any) -> JSON:
    kind = op.WhichOneof("op")
    found: JSON = {"Op": {kind: _message(getattr(op, kind))} if kind in _OPS else {}}
    if op.HasField("platform"):
        found["platform"] = _message(op.platform)
    if op.HasField("constraints"):
        found["constraints"] = _message(op.constraints)
    return found


def _message(message: Any) -> JSON:
    name = message.DESCRIPTOR.name
    if name == "FileAction":
        return _action(message)
    if name == "UserOpt":
        return _user(message)
    found: JSON = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry:
            shown: Any = {str(key): _value(value[key]) for key in sorted(value)}
        elif field.is_repeated:
            shown = [_value(one) for one in value]
        elif field.message_type is not None:
            shown = _message(value) if message.HasField(field.name) else None
            if shown is not None:
                found[field.name] = shown
            continue
        else:
            shown = _value(value)
        if shown:
            found[field.name] = shown
    return found


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return _message(value) if hasattr(value, "DESCRIPTOR") else value


def _action(message: Any) -> JSON:
    kind = message.WhichOneof("action")
    return {
        "input": message.input,
        "secondaryInput": message.secondaryInput,
        "output": message.output,
        "Action": {kind: _message(getattr(message, kind))} if kind in _ACTIONS else {},
    }


def _user(message: Any) -> JSON:
    kind = message.WhichOneof("user")
    if kind == "byName":
        return {"User": {"byName": _message(message.byName)}}
    return {"User": {"byId": message.byID} if message.byID else {}}
