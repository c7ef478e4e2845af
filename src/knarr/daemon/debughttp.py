"""HTTP for who watches the daemon (`--debugaddr`): Prometheus, probes of Kubernetes, and who looks for what hangs.

    GET /metrics          figures
    GET /healthz          200 while the process answers at all
    GET /readyz           200 while builds are taken, else 503
    GET /debug/threads    what each thread does

Whoever reaches the address may read all of it, as with buildkitd.
"""

from __future__ import annotations

import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from knarr import exposition
from knarr.errors import UsageError
from knarr.scope import TICK_S, Scope

Page = Callable[[], tuple[int, str, str]]
"""Status, content type and text."""
_PLAIN = "text/plain; charset=utf-8"
_SILENCE_S = 5.0  # one request is answered at a time: who asks slowly is cut off


@contextmanager
def watched(address: str, metrics: Callable[[], str], is_ready: Callable[[], bool], scope: Scope) -> Iterator[str]:
    """Answer at `address` (HOST:PORT, or with tcp:// before it) on a thread of `scope`; gives the address as it is.

    Raises:
        UsageError: it is none, or cannot be had.
    """
    pages: dict[str, Page] = {
        "/metrics": lambda: (200, exposition.KIND, metrics()),
        "/healthz": lambda: (200, _PLAIN, "ok\n"),
        "/readyz": lambda: (200, _PLAIN, "ok\n") if is_ready() else (503, _PLAIN, "no builds are taken\n"),
        "/debug/threads": lambda: (200, _PLAIN, _threads()),
    }
    server = _listen(address, pages)
    stopped = threading.Event()

    def serve() -> None:
        server.timeout = TICK_S
        while not stopped.is_set():
            server.handle_request()

    scope.attempt(serve)
    try:
        yield f"{server.server_address[0]!s}:{server.server_address[1]}"
    finally:
        stopped.set()
        server.server_close()


def _listen(address: str, pages: Mapping[str, Page]) -> HTTPServer:
    scheme, _, rest = address.rpartition("://")
    host, colon, port = rest.rpartition(":")
    if scheme not in ("", "tcp") or not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--debugaddr {address}: not HOST:PORT")

    class Server(HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, request: object, client_address: object) -> None:
            return  # a client that has gone is no news

    try:
        return Server((host.strip("[]"), int(port)), _answering(pages))
    except OSError as error:
        raise UsageError(f"--debugaddr {address}: cannot listen there: {error.strerror}") from error


def _answering(pages: Mapping[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SILENCE_S

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, kind, text = page() if page else (404, _PLAIN, "".join(f"{path}\n" for path in pages))
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler


def _threads() -> str:
    """The stack of every thread, for who asks why a build hangs. Names of functions and lines, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"{names.get(ident, '?')}\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)
