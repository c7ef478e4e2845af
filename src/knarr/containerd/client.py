"""A connection to containerd: its address, and the namespace that goes with every call.

with dial("/run/containerd/containerd.sock", "k8s.io") as daemon:
    daemon.version()
"""

from __future__ import annotations

import os
import re
import socket
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.empty_pb2 import Empty

from knarr.buildkit.service import OPTIONS, Caller
from knarr.containerd.failure import AlreadyExists, failure_of
from knarr.errors import Cancelled, KnarrError, NotFound, UsageError
from knarr.pb import introspection_pb2, namespaces_pb2, version_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

DEFAULT_ADDRESS = "/run/containerd/containerd.sock"
DEFAULT_NAMESPACE = "default"  # ctr's and nerdctl's; Kubernetes has k8s.io
KUBERNETES = "k8s.io"

_NAMESPACES = namespaces_pb2.DESCRIPTOR.services_by_name["Namespaces"]
_VERSION = version_pb2.DESCRIPTOR.services_by_name["Version"]
_INTROSPECTION = introspection_pb2.DESCRIPTOR.services_by_name["Introspection"]
_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_LONGEST = 76  # of a name: pkg/identifiers
_ANSWERS_S = 10.0  # a containerd that has just been started may still be loading its plugins


class Containerd:
    """One containerd, seen from one namespace. May be used from any thread; `close` ends it for all its views."""

    def __init__(self, channel: grpc.Channel, address: str, namespace: str, lease: str = "") -> None:
        self._channel = channel
        self.address = address
        self.namespace = namespace
        self.lease = lease
        headers = [("containerd-namespace", namespace)]
        if lease:
            headers.append(("containerd-lease", lease))
        self._headers = tuple(headers)

    def __enter__(self) -> Containerd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def within(self, namespace: str) -> Containerd:
        """The same daemon from another namespace.

        Raises:
            UsageError: there can be no such namespace.
        """
        return Containerd(self._channel, self.address, checked_namespace(namespace))

    def under(self, lease: str) -> Containerd:
        """The same, with everything that is made held by a lease."""
        return Containerd(self._channel, self.address, self.namespace, lease)

    def caller(self, service: ServiceDescriptor) -> Caller:
        """What calls the methods of one service.

        Raises (all methods):
            NotFound, AlreadyExists, Refused, Busy, Gone, Unsupported, KnarrError, Cancelled: see `failure`.
        """
        return Caller(self._channel, service, metadata=self._headers, failure=self.failure)

    def failure(self, error: grpc.RpcError) -> KnarrError | Cancelled:
        """What a failed call means."""
        return failure_of(error, self.address)

    def version(self) -> str:
        """Which containerd it is, such as `1.6.20`."""
        answer: version_pb2.VersionResponse = self.caller(_VERSION).unary("Version", Empty(), timeout_s=_ANSWERS_S)
        return answer.version

    def plugins(self, kind: str) -> dict[str, str]:
        """The plugins of one type by their names, each with what is wrong with it (nothing: it can be used)."""
        request = introspection_pb2.PluginsRequest(filters=[f"type=={kind}"])
        answer = self.caller(_INTROSPECTION).unary("Plugins", request)
        return {plugin.id: plugin.init_err.message for plugin in answer.plugins}

    def namespaces(self) -> tuple[str, ...]:
        """Those that there are."""
        answer = self.caller(_NAMESPACES).unary("List", namespaces_pb2.ListNamespacesRequest())
        return tuple(sorted(found.name for found in answer.namespaces))

    def make_namespace(self) -> None:
        """Make this namespace unless it is there: containerd keeps nothing in one that was not made."""
        request = namespaces_pb2.CreateNamespaceRequest(namespace=namespaces_pb2.Namespace(name=self.namespace))
        try:
            self.caller(_NAMESPACES).unary("Create", request)
        except AlreadyExists:
            return

    def need_namespace(self) -> None:
        """See that the namespace is there.

        Raises:
            NotFound: it is not; with those that are.
        """
        there = self.namespaces()
        if self.namespace not in there:
            raise NotFound(
                f"the containerd at {self.address} has no namespace {self.namespace}",
                hint=f"it has: {', '.join(there) or 'none yet'}",
            )


def dial(address: str = "", namespace: str = "") -> Containerd:
    """Connect to the containerd at `address` (a path, with or without unix://; empty: the usual place).

    Raises:
        UsageError: `address` or `namespace` cannot be one.
        KnarrError: nobody answers there, or we may not ask.
    """
    path = (address or DEFAULT_ADDRESS).removeprefix("unix://")
    if "://" in path or not path.startswith("/"):
        raise UsageError(f"containerd address {address}: not the path of a socket", hint=f"such as {DEFAULT_ADDRESS}")
    chosen = checked_namespace(namespace or DEFAULT_NAMESPACE)
    _knock(path)
    options: tuple[tuple[str, Any], ...] = (*OPTIONS, ("grpc.default_authority", "localhost"))
    return Containerd(grpc.insecure_channel(f"unix:{path}", options=options), path, chosen)


def checked_namespace(name: str) -> str:
    """`name`, which can be that of a namespace.

    Raises:
        UsageError: it cannot.
    """
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise UsageError(
            f"containerd namespace {name!r}: not a name", hint="letters and digits, with single . _ - between them"
        )
    return name


def _knock(path: str) -> None:
    """Connect once by hand: gRPC tells all that can be wrong with a socket in the same words."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ANSWERS_S)
        try:
            probe.connect(path)
        except FileNotFoundError:
            raise KnarrError(f"no containerd is at {path}: there is no such socket", hint=_elsewhere(path)) from None
        except PermissionError:
            raise KnarrError(
                f"the containerd at {path} may not be asked by this user", hint="run this as root, or with sudo"
            ) from None
        except ConnectionRefusedError:
            raise KnarrError(
                f"no containerd answers at {path}", hint="it was stopped, or that is another program's file: start it"
            ) from None
        except OSError as error:
            raise KnarrError(f"no containerd answers at {path}: {error.strerror or error}") from None


def _elsewhere(path: str) -> str:
    usual = (DEFAULT_ADDRESS, "/run/k3s/containerd/containerd.sock", "/run/docker/containerd/containerd.sock")
    found = [place for place in usual if place != path and os.path.exists(place)]
    return f"there is one at {found[0]}" if found else "start it, or give its address"
