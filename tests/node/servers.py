"""Web servers with archives: well, slow, cut off, full of other files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served:
    """What a server has, and how it gives it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_at: int | None = None  # bytes after which a connection ends
        self.stall = threading.Event()  # set: nothing more comes, after the first half
        self.asked: list[str] = []
        self.address = ""


@contextmanager
def serving() -> Iterator[Served]:
    """A server on 127.0.0.1."""
    served = Served()
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            data = served.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if served.stall.is_set():
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                ended.wait(60)
                return
            self.wfile.write(data[: served.cut_at])
            self.close_connection = True

        def log_message(self, format: str, *words: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        served.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield served
        finally:
            ended.set()
            server.shutdown()
            thread.join()
