"""A failure on its way through a call: the status, and BuildKit's typed details that say where in the user's text.

BuildKit writes a detail as JSON under a type URL of its own ("…/errdefs.Source+json"),
not as the packed message that gRPC's other users know. Tried with buildctl at 73ed682.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError

from knarr.errors import Bug, Cancelled, DockerfileError, Excerpt, KnarrError, NotFound, Remains, Span
from knarr.frontend.gateway import UnsupportedCapability, UnsupportedRequest
from knarr.frontend.sourcequestion import Refused
from knarr.pb import errdefs_pb2
from knarr.pb.ops_pb2 import Definition
from knarr.pb.status_pb2 import Status

if TYPE_CHECKING:
    from types import TracebackType

    from google.protobuf.any_pb2 import Any as Detail

SOURCE = "github.com/moby/buildkit/errdefs.Source+json"
SOLVE = "github.com/moby/buildkit/errdefs.Solve+json"
VERTEX = "github.com/moby/buildkit/errdefs.Vertex+json"
STACK = "github.com/moby/buildkit/stack.Stack+json"
_NAMED: dict[type[KnarrError], str] = {
    UnsupportedCapability: "github.com/moby/buildkit/errdefs.FrontendCap+json",
    UnsupportedRequest: "github.com/moby/buildkit/errdefs.Subrequest+json",
}
_DECISION, _DENY = "github.com/moby/buildkit/policysession.DecisionResponse+json", 1
_TRAILER = "grpc-status-details-bin"
_HINT = "\nhint: "
_GUESS = "did you mean "
_CANCELLED, _UNKNOWN, _INTERNAL = 1, 2, 13  # of google.rpc.Code
_MAX_MESSAGE = 4096  # bytes: it travels in a header, and peers give up on long ones
_MAX_DETAIL = 1 << 20
_MAX_LINES = 1000  # that are marked
_MAX_FRAMES = 40


class Told(KnarrError):
    """A failure that came through a call: what else was told of it is kept, for those it goes on to."""

    def __init__(self, message: str, *, hint: str = "", status: Status) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def status_of(error: BaseException) -> Status:
    """The status that tells `error` to a client of BuildKit's."""
    if isinstance(error, Cancelled):
        return Status(code=_CANCELLED, message="context canceled")  # the words by which clients know it
    if not isinstance(error, KnarrError):
        return Status(code=_UNKNOWN, message=str(error))
    status = Status(code=_INTERNAL if isinstance(error, Bug) else _UNKNOWN, message=_text(error))
    if isinstance(error, UnsupportedCapability | UnsupportedRequest):
        status.details.add(type_url=_NAMED[type(error)], value=json.dumps({"name": error.name}).encode())
    if isinstance(error, Refused) and error.reasons:
        reasons = {"action": _DENY, "denyMessages": [{"message": reason} for reason in error.reasons]}
        status.details.add(type_url=_DECISION, value=json.dumps(reasons).encode())
    if isinstance(error, Told):
        status.code = error.status.code or _UNKNOWN
        status.details.MergeFrom(error.status.details)
    if error.span is not None and not any(_is_source(detail) for detail in status.details):
        # The last place goes first: BuildKit wraps an error in one after the other, and its clients unwrap them.
        for span, excerpt in reversed(((error.span, error.excerpt), *error.further)):
            status.details.add(type_url=SOURCE, value=json.dumps(_source(span, excerpt)).encode())
    if error.remains is not None:
        status.details.add(type_url=SOLVE, value=_solve(error.remains))
    if error.vertex:
        status.details.add(type_url=VERTEX, value=json.dumps({"digest": error.vertex}).encode())
    if error.__traceback__ is not None and not any(detail.type_url == STACK for detail in status.details):
        status.details.add(type_url=STACK, value=json.dumps(_stack(error.__traceback__)).encode())
    return status


def error_of(status: Status) -> KnarrError:
    """The failure that `status` tells, whoever wrote it."""
    message, _, hint = status.message.partition(_HINT)
    error = Told(message or "it failed without saying why", hint=hint, status=status)
    for detail in filter(_is_source, status.details):
        _place(error, detail)
    return error


def failure_of(error: grpc.RpcError) -> KnarrError | Cancelled:
    """What a failed call means to us."""
    call: Any = error  # a grpc.Call as well, by grpc's documentation
    if call.code() is grpc.StatusCode.CANCELLED:
        return Cancelled()
    told = error_of(_told(call) or Status(message=call.details() or call.code().name.lower()))
    if call.code() is grpc.StatusCode.NOT_FOUND:
        return NotFound(told.message, hint=told.hint)
    return told


def _told(call: Any) -> Status | None:
    """The status in a call's trailer, if there is one that can be read."""
    for key, value in call.trailing_metadata() or ():
        if key == _TRAILER:
            try:
                return Status.FromString(value)
            except DecodeError:
                return None
    return None


def abort(context: grpc.ServicerContext, error: BaseException) -> NoReturn:
    """End the call with `error`."""
    status = status_of(error)
    if status.details:
        context.set_trailing_metadata(((_TRAILER, status.SerializeToString()),))
    codes = {code.value[0]: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}
    context.abort(codes.get(status.code, grpc.StatusCode.UNKNOWN), status.message)


def _is_source(detail: Detail) -> bool:
    return detail.type_url.endswith("/errdefs.Source+json")


def _text(error: KnarrError) -> str:
    about = ", ".join(f"{key} {value}" for key, value in error.context.items() if value)
    message = error.told if isinstance(error, DockerfileError) else error.message
    text = message + (f" ({about})" if about else "")
    if isinstance(error, NotFound) and error.path:  # the words by which clients know a file that is missing
        tree = error.tree.replace(" ", "-")
        text = f'failed to compute cache key: failed to calculate checksum of ref {tree}: "/{error.path}": not found'
        if error.tree != "build context":
            text += f": lstat /{error.path}: no such file or directory"
    if error.hint.startswith(_GUESS):
        text += f" ({error.hint})"  # as BuildKit has it
    elif error.hint:
        text += f"{_HINT}{error.hint}"
    return text.encode()[:_MAX_MESSAGE].decode(errors="ignore")


def _source(span: Span, excerpt: Excerpt | None) -> dict[str, Any]:
    info: dict[str, Any] = {"filename": span.file, "language": "Dockerfile" if excerpt is None else excerpt.language}
    if excerpt is not None:
        text = excerpt.data or "\n".join(excerpt.lines).encode(errors="surrogateescape")
        if len(text) <= _MAX_DETAIL:
            info["data"] = base64.b64encode(text).decode()
        if excerpt.definition and len(excerpt.definition) <= _MAX_DETAIL:
            read = Definition.FromString(excerpt.definition)
            info["definition"] = {"def": [base64.b64encode(op).decode() for op in getattr(read, "def")]}
    last = min(span.last, span.first + _MAX_LINES)
    ranges: list[dict[str, dict[str, int]]] = [
        {"start": {"line": n}, "end": {"line": n}} for n in range(span.first, last + 1)
    ]
    if span.column:
        ranges[0]["start"]["character"] = span.column
    return {"info": info, "ranges": ranges}


def _solve(left: Remains) -> bytes:
    """The op that failed, and the names of what it left, for clients that look into that."""
    told = errdefs_pb2.Solve(inputIDs=left.inputs, mountIDs=left.outputs)
    if len(left.op) <= _MAX_DETAIL:
        told.op.ParseFromString(left.op)
    if left.action is not None:
        told.file.index = left.action
    if left.selected is not None:
        told.cache.index = left.selected
    return MessageToJson(told, indent=None).encode()


def _stack(traceback: TracebackType) -> dict[str, Any]:
    """Where the error was raised, for `buildctl --debug` and the history: the place itself first, as Go has it."""
    frames = []
    for frame, line in reversed(list(walk_tb(traceback))):
        code = frame.f_code
        module = str(frame.f_globals.get("__name__", ""))
        frames.append({"Name": f"{module}.{code.co_qualname}", "File": module.replace(".", "/") + ".py", "Line": line})
    return {"frames": frames[:_MAX_FRAMES], "cmdline": ["knarr"], "pid": os.getpid()}


def _place(error: KnarrError, detail: Detail) -> None:
    """Add the place that a detail tells; one that is not as it should be tells none."""
    try:
        source = json.loads(detail.value)
        info = source["info"]
        places = [(_line(r.get("start")), _line(r.get("end"))) for r in source["ranges"]]
        text = base64.b64decode(info.get("data", ""))
        file = str(info["filename"])
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, binascii.Error):
        return
    if not places:
        return
    first = min(start for start, _ in places)
    last = max(max(place) for place in places)
    lines = text.decode(errors="replace").split("\n")
    excerpt = Excerpt(tuple(lines)) if 1 <= first <= len(lines) else None
    error.with_context(span=Span(file, first, max(first, min(last, len(lines)))), excerpt=excerpt)


def _line(position: Mapping[str, Any] | None) -> int:
    return int((position or {}).get("line", 0))
