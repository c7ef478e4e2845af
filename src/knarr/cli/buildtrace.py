"""The trace of a `knarr build`, for the collector that OpenTelemetry's variables name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from knarr.errors import KnarrError
from knarr.progress import Sink
from knarr.trace import settings as otel
from knarr.trace.recorder import Recorder
from knarr.trace.span import place, spans


@contextmanager
def traced(sink: Sink, name: str, environ: Mapping[str, str] = os.environ) -> Iterator[Sink]:
    """A sink for a build whose trace is sent when the block ends, well or not; `sink` where nobody wants it.

    Raises:
        UsageError: one of the variables has a value that cannot be meant.
    """
    collector = otel.from_environment(environ)
    if collector is None:
        yield sink
        return
    try:
        from knarr.trace.otlp import message
    except ImportError:
        _tell("traces are not sent: install knarr with the extra `otel`")
        yield sink
        return
    from importlib.metadata import version

    from knarr.trace.send import Sender

    sender = Sender(collector, _tell)
    resource = otel.resource(environ, "knarr", version("knarr"))
    recorder = Recorder(sink)
    error = ""
    try:
        yield recorder
    except BaseException as failure:
        error = failure.message if isinstance(failure, KnarrError) else type(failure).__name__
        raise
    finally:
        at = place(environ.get("TRACEPARENT", ""))
        times = (recorder.begun_ns, time.time_ns())
        made = spans(at, name, *times, recorder.steps(), attributes={}, resource=resource, error=error)
        sender.send(message(list(made)))


def _tell(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
