"""The traces of builds: kept in the history, sent to a collector where one is named, with what clients add to them.

A client that traces names its span in the header `traceparent` of its Solve, and
sends its own spans to the daemon's TraceService (it knows no collector), often only
when the build has ended. So the trace of a build is written when that ends, and
again when more of it comes.

Spec: opentelemetry-proto 1.x, collector/trace/v1; BuildKit's util/tracing/detect and solver/llbsolver/history.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import grpc

from knarr.buildkit.status import digest_of
from knarr.errors import Cancelled
from knarr.trace import stub
from knarr.trace.span import Place, Span, Step, place, spans, traceparent

if TYPE_CHECKING:
    from knarr.buildkit.status import StatusLog
    from knarr.daemon.history import History
    from knarr.ops.steptrace import StepTrace
    from knarr.pb.control_pb2 import SolveRequest
    from knarr.scope import Scope

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
_HEADER = "traceparent"
_TRACES = 16  # that are remembered, for spans that come late
_SPANS = 1000  # of one trace that clients may add


class _Known:
    """One trace: the build it belongs to, once that is known, and its spans."""

    def __init__(self) -> None:
        self.ref = ""
        self.spans: list[Span] = []
        self.is_written = False


class Traces:
    """Of one daemon. Safe from several threads."""

    def __init__(
        self, history: History, scope: Scope, resource: Mapping[str, str], send: Callable[[bytes], object] | None
    ) -> None:
        """`send` takes a request of OTLP's to the collector, and may take its time; None: there is none."""
        self._history = history
        self._scope = scope
        self._resource = resource
        self._send = send
        self.socket = ""  # where steps send their spans, if they are told to
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server is given so that clients may send spans."""
        export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._export)
        return grpc.method_handlers_generic_handler(_SERVICE, {"Export": export})

    def of_steps(self, at: Place) -> StepTrace | None:
        """How the steps of a build whose spans belong at `at` tell of themselves; None: nobody listens."""
        if not self.socket:
            return None
        from knarr.ops.steptrace import StepTrace

        return StepTrace(self.socket, partial(traceparent, at))

    def begin(self, context: grpc.ServicerContext, ref: str) -> Place:
        """Where the spans of the build `ref` belong."""
        headers = dict(context.invocation_metadata())
        at = place(str(headers.get(_HEADER, "")))
        with self._lock:
            self._of(at.trace).ref = ref
        return at

    def end(self, at: Place, request: SolveRequest, begun_ns: int, log: StatusLog, error: str) -> None:
        """The build has ended, and its record is in the history: make its trace, while its client goes on."""
        attributes = {"ref": request.Ref, "frontend": request.Frontend}
        made = list(
            spans(
                at,
                "moby.buildkit.v1.Control/Solve",
                begun_ns,
                time.time_ns(),
                _steps(log),
                attributes=attributes,
                resource=self._resource,
                error=error,
            )
        )
        with self._lock:
            known = self._of(at.trace)
            known.spans += made
            known.is_written = True
        with suppress(Cancelled):  # the daemon has ended meanwhile
            self._scope.attempt(self._take, request.Ref, known, made)

    def _write(self, ref: str, known: _Known) -> None:
        """Keep a trace as it is now; one at a time, so that no older state of it comes last."""
        with self._writing:
            with self._lock:
                whole = list(known.spans)
            self._history.put_trace(ref, stub.text(whole))

    def _take(self, ref: str, known: _Known, made: list[Span]) -> None:
        self._write(ref, known)
        if self._send is not None:
            from knarr.trace.otlp import message

            self._send(message(made))

    def _export(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Spans of a client; the answer has nothing to say."""
        if self._send is not None:
            with suppress(Cancelled):
                self._scope.attempt(self._send, data)
        try:
            from google.protobuf.message import DecodeError
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

            from knarr.trace.otlp import read
        except ImportError:  # without the extra, clients' spans are only passed on
            return b""
        try:
            told = list(read(ExportTraceServiceRequest.FromString(data)))
        except DecodeError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a request of OTLP's trace service")
        for known in self._add(told):
            self._write(known.ref, known)
        return b""

    def _add(self, told: list[Span]) -> list[_Known]:
        """Note spans; the traces that are to be written again."""
        with self._lock:
            touched = {}
            for span in told:
                known = self._of(span.trace)
                if len(known.spans) < _SPANS:
                    known.spans.append(span)
                    touched[span.trace] = known
            return [known for known in touched.values() if known.is_written]

    def _of(self, trace: str) -> _Known:
        known = self._known.get(trace)
        if known is None:
            known = self._known[trace] = _Known()
            while len(self._known) > _TRACES:
                self._known.popitem(last=False)
        return known


def _steps(log: StatusLog) -> list[Step]:
    return [
        Step(
            vertex.digest or digest_of(vertex.name),
            vertex.name,
            tuple(vertex.inputs),
            vertex.started.ToNanoseconds() if vertex.HasField("started") else 0,
            vertex.completed.ToNanoseconds() if vertex.HasField("completed") else 0,
            vertex.cached,
            vertex.error,
        )
        for vertex in log.vertices()
    ]


def collector(environ: Mapping[str, str], tell: Callable[[str], object]) -> Callable[[bytes], object] | None:
    """What takes traces to the collector that `environ` names, if it names one.

    Raises:
        UsageError: one of the variables has a value that cannot be meant.
    """
    from knarr.trace import settings

    found = settings.from_environment(environ)
    if found is None:
        return None
    from importlib.util import find_spec

    if find_spec("opentelemetry") is None:
        tell("traces are not sent: install knarr with the extra `otel`")
        return None
    from knarr.trace.send import Sender

    return Sender(found, tell).send
