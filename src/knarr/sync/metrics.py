"""What a long-running sync has done, in Prometheus' text form, served at `/metrics`.

Spec: Prometheus exposition format 0.0.4.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from knarr.errors import KnarrError, UsageError
from knarr.sync.row import FAILED, RESULTS, Row


class Metrics:
    """Counters over all runs of this process. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images = dict.fromkeys(RESULTS, 0)
        self._bytes = 0
        self._runs = 0
        self._seconds = 0.0
        self._reloads = {"ok": 0, "failed": 0}
        self._tasks: dict[str, tuple[float, float]] = {}  # source → time of the last run, and of the last good one

    def ran(self, source: str, rows: Iterable[Row], seconds: float) -> None:
        """A task was run."""
        rows = tuple(rows)
        now = time.time()
        good = all(row.result != FAILED for row in rows)
        with self._lock:
            self._runs += 1
            self._seconds += seconds
            for row in rows:
                self._images[row.result] += 1
                self._bytes += row.size_bytes
            self._tasks[source] = (now, now if good else self._tasks.get(source, (0.0, 0.0))[1])

    def reloaded(self, *, ok: bool) -> None:
        """The file was read again."""
        with self._lock:
            self._reloads["ok" if ok else "failed"] += 1

    def text(self) -> str:
        with self._lock:
            lines = [
                *_head("knarr_sync_runs_total", "counter", "Runs of tasks."),
                f"knarr_sync_runs_total {self._runs}",
            ]
            lines += _head("knarr_sync_run_seconds_total", "counter", "Time spent in runs.")
            lines.append(f"knarr_sync_run_seconds_total {self._seconds:.3f}")
            lines += _head("knarr_sync_images_total", "counter", "Images by what became of them.")
            lines += [f'knarr_sync_images_total{{result="{name}"}} {count}' for name, count in self._images.items()]
            lines += _head("knarr_sync_copied_bytes_total", "counter", "Bytes sent to targets.")
            lines.append(f"knarr_sync_copied_bytes_total {self._bytes}")
            lines += _head("knarr_sync_reloads_total", "counter", "Times that the file was read again.")
            lines += [f'knarr_sync_reloads_total{{result="{name}"}} {count}' for name, count in self._reloads.items()]
            for place, word in enumerate(("run", "success")):
                name = f"knarr_sync_last_{word}_timestamp_seconds"
                lines += _head(
                    name, "gauge", f"When a task last {'ran' if word == 'run' else 'ran without a failure'}."
                )
                lines += [f'{name}{{source="{_escaped(task)}"}} {at[place]:.0f}' for task, at in self._tasks.items()]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsServer:
    """Serves `metrics` while its `with` block lasts."""

    def __init__(self, address: str, metrics: Metrics) -> None:
        """`address`: `HOST:PORT` or `:PORT`.

        Raises:
            UsageError: it is none.
            KnarrError: it cannot be listened at.
        """
        host, colon, port = address.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise UsageError(f"{address!r} is not an address", hint="such as :9090 or 127.0.0.1:9090")
        handler = type("Handler", (_Handler,), {"metrics": metrics})
        try:
            self._server = ThreadingHTTPServer((host.strip("[]"), int(port)), handler)
        except OSError as error:
            raise KnarrError(f"metrics at {address}: {error.strerror}") from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="metrics")

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    metrics: Metrics
    timeout = 10.0  # seconds for a whole request: nobody holds a thread

    def do_GET(self) -> None:
        found = self.path.partition("?")[0] in ("/metrics", "/healthz")
        body = self.metrics.text().encode() if self.path.startswith("/metrics") else b"ok\n"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return
