"""A channel to a builder, and the first question to it: whether a buildkitd answers there.

with connected(read_address("tcp://10.0.0.7:1234"), tls, place) as builder:
    builder.version            # "v0.33.0"
    builder.control.unary("ListWorkers", …)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from knarr.buildkit.failure import failure_of
from knarr.buildkit.service import OPTIONS, Caller
from knarr.client.diagnosis import explain
from knarr.client.relay import Relay, relayed
from knarr.errors import Cancelled, KnarrError
from knarr.pb import control_pb2 as pb
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.client.address import Address
    from knarr.client.tls import Tls
    from knarr.scope import Scope

CONTROL = pb.DESCRIPTOR.services_by_name["Control"]
ANSWER_S = 20.0
_CHANNEL = (
    *OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),  # never the connection of another builder
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),  # as buildctl: a proxy for the web does not lead to builders
    ("grpc.default_authority", "localhost"),
)


class Builder:
    """A buildkitd that answers."""

    def __init__(self, address: Address, channel: grpc.Channel, tls: Tls, relay: Relay | None) -> None:
        self.address = address
        self.channel = channel
        self.control = Caller(channel, CONTROL)
        self._tls = tls
        self._relay = relay
        self._about: Any = None

    def greet(self, scope: Scope | None = None) -> None:
        """See that it is one.

        Raises:
            KnarrError: nobody answers there, or somebody who is no buildkitd, or we do not trust each other.
        """
        try:
            self._about = self._ask("Info", pb.InfoRequest(), scope).buildkitVersion
        except _Unimplemented:
            try:
                self._workers = self._ask("ListWorkers", pb.ListWorkersRequest(), scope).record
            except _Unimplemented:
                raise KnarrError(
                    f"the server at {self.address} speaks gRPC, but is no buildkitd",
                    hint="give the address of buildkitd, not containerd's or another daemon's",
                ) from None

    def _ask(self, name: str, message: Any, scope: Scope | None) -> Any:
        call = self.control.begin(name, message, timeout_s=ANSWER_S)
        try:
            if scope is None:
                return call.result()
            with scope.on_cancel(call.cancel):
                return call.result()
        except grpc.FutureCancelledError:
            raise Cancelled from None
        except grpc.RpcError as error:
            told: Any = error
            if told.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise _Unimplemented from None
            raise self.explained(error) from None

    def explained(self, error: grpc.RpcError) -> KnarrError | Cancelled:
        """Why a call failed that should have been answered."""
        told: Any = error
        if told.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return explain(self.address, self._tls, self._relay, told.details() or "")
        return failure_of(error)

    def usage(self, filters: Sequence[str]) -> Sequence[Any]:
        """What its cache holds, as `UsageRecord`s."""
        request = pb.DiskUsageRequest(filter=filters)
        found: Sequence[Any] = self.control.unary("DiskUsage", request).record
        return found

    def prune(self, request: pb.PruneRequest) -> Iterator[Any]:
        """Have it remove what `request` says; gives each `UsageRecord` that went.

        Raises:
            KnarrError: it cannot, or went away.
        """
        try:
            yield from self.control.stream("Prune", request)
        except grpc.RpcError as error:
            raise self.explained(error) from None

    @property
    def version(self) -> str:
        """What it says of its version; "" when it says nothing (before BuildKit v0.11)."""
        return str(self._about.version) if self._about is not None else ""

    @property
    def is_knarr(self) -> bool:
        """Whether it is knarr's own daemon."""
        return self._about is not None and self._about.package == "knarr"

    @cached_property
    def _workers(self) -> Sequence[Any]:
        found: Sequence[Any] = self.control.unary("ListWorkers", pb.ListWorkersRequest(), timeout_s=ANSWER_S).record
        return found

    @property
    def workers(self) -> Sequence[Any]:
        """Its `WorkerRecord`s, the default one first."""
        return self._workers

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """What it builds for, its own platform first."""
        found = (platform for worker in self.workers for platform in worker.platforms)
        return tuple(dict.fromkeys(Platform(p.OS, p.Architecture, p.Variant) for p in found))

    @property
    def shown(self) -> str:
        """For people: the address with the version."""
        return f"{self.address} ({'knarr ' if self.is_knarr else 'BuildKit '}{self.version or 'before v0.11'})"


class _Unimplemented(Exception):
    """The server does not know the call."""


@contextmanager
def connected(address: Address, tls: Tls, place: Path, *, scope: Scope | None = None) -> Iterator[Builder]:
    """The builder at `address`, for the time of the block. `place` is a directory of ours alone.

    Raises:
        UsageError: the certificates cannot be used.
        KnarrError: see `Builder.greet`.
    """
    tls.check()
    with ExitStack() as stack:
        relay = stack.enter_context(relayed(address.command, place)) if address.command else None
        options: list[tuple[str, object]] = list(_CHANNEL)
        target = address.target if address.kind == "tcp" else f"unix:{relay.path if relay else address.target}"
        if address.kind == "tcp":
            options = [option for option in options if option[0] != "grpc.default_authority"]
        if tls.given and address.kind == "tcp":
            if tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            channel = grpc.secure_channel(target, tls.credentials(), options)
        else:
            channel = grpc.insecure_channel(target, options)
        stack.callback(channel.close)
        builder = Builder(address, channel, tls, relay)
        builder.greet(scope)
        yield builder
