"""What a step that traces itself is told: where its spans go, and which span they belong below.

The socket is the daemon's; a step's programs find it by OpenTelemetry's own variables,
which a Dockerfile may set otherwise (`ENV OTEL_TRACES_EXPORTER=none`).

Spec: BuildKit's executor/oci/spec.go at v0.33; OpenTelemetry's "OTLP exporter"; W3C Trace Context.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from knarr.record import record
from knarr.runtime.process import BindMount

_INSIDE = "/dev/otel-grpc.sock"
_VARIABLES = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"unix://{_INSIDE}",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
}


@record
class StepTrace:
    """`socket` takes spans; `parent` gives the `traceparent` of a step, by its vertex."""

    socket: str
    parent: Callable[[str], str]

    def mounts(self) -> tuple[BindMount, ...]:
        """The socket inside, when it is still there."""
        return (BindMount(Path(self.socket), _INSIDE, readonly=True),) if os.path.exists(self.socket) else ()

    def environment(self, env: Sequence[str], vertex: str) -> tuple[str, ...]:
        """`env` with what it does not say itself."""
        said = {pair.partition("=")[0] for pair in env}
        wanted = {**_VARIABLES, "TRACEPARENT": self.parent(vertex)}
        return (*env, *(f"{name}={value}" for name, value in wanted.items() if name not in said))
