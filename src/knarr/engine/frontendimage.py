"""Runs a frontend that is an image: a container that speaks to us over its standard input and output.

The process is the client of the gateway; what it names with `Return` is the
answer. It is told its options and the workers in its environment, as BuildKit
tells them, and what its image says of itself decides about its network and which
requests it can be sent.

Spec: BuildKit's frontend/gateway/gateway.go at v0.33.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import Cancelled, ContentError, KnarrError, RuntimeFailed, StepFailed, UsageError
from knarr.frontend.gateway import Answer, Ref, UnsupportedCapability
from knarr.frontend.options import capabilities
from knarr.llb import definition, ops
from knarr.llb.ops import Edge, Graph, Metadata
from knarr.owner import owned_directory
from knarr.runtime.process import BindMount, ProcessSpec, Stdio
from knarr.scope import Scope
from knarr.spec.platform import Platform, host_platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.buildkit.gateway import Bridge
    from knarr.engine.gateway import EngineGateway
    from knarr.frontend.bridge import ResolvedImage

_NO_NETWORK = "moby.buildkit.frontend.network.none"
_CAPS = "moby.buildkit.frontend.caps"
_INPUTS = "moby.buildkit.frontend.inputs"
_METADATA = "/run/config/buildkit/metadata"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_KEPT = 8192  # bytes of what it wrote last, for the message
_LINES = 20


def answer(gateway: EngineGateway, options: Mapping[str, str], inputs: Mapping[str, bytes], scope: Scope) -> Answer:
    """Run the image that the option `source` names.

    Raises:
        UsageError: there is no such option, or it names no image.
        Unsupported: the image cannot do what is asked of it.
        ContentError, StepFailed: it broke the protocol, or ended without an answer.
        KnarrError: what the frontend itself says is wrong.
    """
    name = options.get("source", "")
    if not name:
        raise UsageError("gateway.v0 runs an image, and none is named", hint="name it with the option source")
    gateway.job.ran_frontend = True
    image = gateway.resolve_image(Reference.parse(name).tagged(), None, mode="default")
    _require_caps(name, image, options, inputs)
    source = _source(image, host_platform())
    record = gateway.record(source, scope)
    with gateway.job.trees.active(record) as tree:
        return _Run(gateway, name, source, image).answer(tree.root, options, inputs, scope)


def _require_caps(name: str, image: ResolvedImage, options: Mapping[str, str], inputs: Mapping[str, bytes]) -> None:
    has = capabilities(image.config.config.labels.get(_CAPS, ""))
    wanted = capabilities(options.get("frontend.caps", "")) | ({_INPUTS} if inputs else set())
    for cap in sorted(wanted - has):
        raise UnsupportedCapability(cap, hint=f"{name} does not say that it has it")


def _source(image: ResolvedImage, platform: Platform) -> Ref:
    """The graph of the frontend's own image, at the digest that was resolved."""
    reference = image.reference
    pinned = f"docker-image://{reference}" + ("" if reference.digest else f"@{image.digest}")
    vertex = definition.vertex(
        ops.SourceOp(pinned), platform=platform, metadata=Metadata(description={"llb.customname": pinned})
    )
    graph = Graph({vertex.digest: vertex}, Edge(vertex.digest))
    return Ref(graph, definition.encode(graph))


class _Run:
    """One run of a frontend's image."""

    def __init__(self, gateway: EngineGateway, name: str, source: Ref, image: ResolvedImage) -> None:
        self._gateway = gateway
        self._name = name
        self._source = source
        self._config = image.config.config
        self._platforms = (host_platform(),)
        self._last = b""

    def answer(self, root: str, options: Mapping[str, str], inputs: Mapping[str, bytes], scope: Scope) -> Answer:
        from knarr.buildkit.gateway import SERVICE, Bridge
        from knarr.buildkit.service import serving
        from knarr.buildkit.stdio import serving_pipes

        with (
            Scope() as own,
            scope.on_cancel(own.cancel),
            owned_directory(self._gateway.job.world.settings.run / "frontends") as place,
            closing(Bridge(self._gateway, inputs, self._platforms, scope=own)) as bridge,
        ):
            spec = self._spec(root, options, place)
            with serving_pipes((serving(SERVICE, bridge),), place, on_broken=own.cancel, scope=own) as pipes:
                try:
                    stdio = Stdio(pipes.stdin, pipes.stdout)
                    ended = self._gateway.job.world.runtime().run(spec, output=self._listen, scope=own, stdio=stdio)
                except Cancelled:
                    if not pipes.broken:
                        raise
                    raise self._no_frontend("it does not speak gRPC on its standard output") from None
                except RuntimeFailed as error:
                    raise self._no_frontend(error.message) from error
            return self._judge(bridge, ended.status)

    def _spec(self, root: str, options: Mapping[str, str], place: Path) -> ProcessSpec:
        shown = place / "metadata"
        shown.mkdir(mode=0o755)
        (shown / "frontend.bin").write_bytes(self._source.definition)
        config = self._config
        told = [f"BUILDKIT_FRONTEND_OPT_{n}={name}={value}" for n, (name, value) in enumerate(options.items())]
        workers = [{"ID": "knarr", "Labels": {}, "Platforms": [p.to_json() for p in self._platforms]}]
        env = [
            *config.env,
            *told,
            f"BUILDKIT_SESSION_ID={self._gateway.job.nonce}",
            f"BUILDKIT_WORKERS={json.dumps(workers)}",
            "BUILDKIT_EXPORTEDPRODUCT=knarr",
        ]
        return ProcessSpec(
            Path(root),
            args=config.entrypoint or ("/run",),
            env=tuple(env),
            cwd=config.working_dir or "/",
            mounts=(BindMount(shown, _METADATA, readonly=True),),
            network="none" if config.labels.get(_NO_NETWORK) in _TRUE else "default",
        )

    def _listen(self, stream: int, data: bytes) -> None:
        self._last = (self._last + data)[-_KEPT:]

    def _judge(self, bridge: Bridge, status: int) -> Answer:
        """What it gave; what it said is wrong comes before how it ended, and how it ended before what it gave."""
        found = bridge.answer
        if status:
            raise self._ended(f"frontend {self._name} failed: exit code: {status}", status)
        if found is None:
            raise self._ended(f"frontend {self._name} ended without an answer", status)
        return found

    def _ended(self, message: str, status: int) -> KnarrError:
        lines = self._last.decode(errors="replace").rstrip("\n").split("\n")[-_LINES:] if self._last else ()
        return StepFailed(message, step=f"frontend {self._name}", status=status, output=lines)

    def _no_frontend(self, why: str) -> KnarrError:
        hint = "is this the image of a frontend? A Dockerfile's `# syntax=` names one"
        return ContentError(f"frontend {self._name} cannot be used: {why}", hint=hint)
