"""A collector made with OpenTelemetry's own messages and gRPC's own server: what it takes is what others would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_NAME = "opentelemetry.proto.collector.trace.v1.TraceService"


class Collector:
    """`spans` are those that came; `headers` of each request."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.endpoint = ""

    @property
    def spans(self) -> list[Any]:
        return [s for r in self.requests for p in r.resource_spans for scoped in p.scope_spans for s in scoped.spans]

    @property
    def services(self) -> set[str]:
        parts = [part.resource for request in self.requests for part in request.resource_spans]
        return {a.value.string_value for part in parts for a in part.attributes if a.key == "service.name"}


@contextmanager
def over_grpc() -> Iterator[Collector]:
    found = Collector()

    def export(request: Any, context: Any) -> Any:
        found.headers.append({str(key): str(value) for key, value in context.invocation_metadata()})
        found.requests.append(request)
        return ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_NAME, {"Export": handler}),))
        found.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield found
        server.stop(0).wait()


@contextmanager
def over_http() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            known = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if known:
                found.headers.append(dict(self.headers.items()))
                found.requests.append(ExportTraceServiceRequest.FromString(data))
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *words: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        yield found
        server.shutdown()
        thread.join()
