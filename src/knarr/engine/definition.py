"""The step that stands for reading a Dockerfile: when it begins, what is found in the file, how it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from knarr.errors import KnarrError
from knarr.frontend.request import FrontendRequest, Warning
from knarr.progress import Sink, VertexDone, VertexStarted, Warned


@contextmanager
def told(request: FrontendRequest, sink: Sink) -> Iterator[list[Warning]]:
    """Show the block as a step on `sink`. What it puts in the list is shown when it ends, also when it fails."""
    name = f"[internal] load build definition from {os.path.basename(request.filename)}"
    sink.send(VertexStarted(name, name, at_ns=time.time_ns()))
    warnings: list[Warning] = []
    error = ""
    try:
        yield warnings
    except KnarrError as failure:
        error = failure.message
        raise
    finally:
        for warning in warnings:
            sink.send(_warned(name, warning))
        sink.send(VertexDone(name, error=error, at_ns=time.time_ns()))


def _warned(vertex: str, warning: Warning) -> Warned:
    span = warning.span
    message = f"{warning.rule}: {warning.message}"
    file, line = (span.file, span.first) if span else ("", 0)
    return Warned(vertex, message, warning.description, warning.url, file, line, time.time_ns())
