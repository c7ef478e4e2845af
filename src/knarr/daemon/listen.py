"""The addresses a daemon listens at: unix sockets, tcp with and without TLS, sockets that systemd has opened."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from knarr.errors import KnarrError, UsageError
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.daemon.settings import DaemonSettings, Tls

_FIRST_FD = 3  # sd_listen_fds(3)
_PIECE = 64 << 10


@contextmanager
def listening(server: grpc.Server, settings: DaemonSettings, private: str) -> Iterator[list[str]]:
    """Have `server` serve all addresses of `settings`; gives them as they are, a port 0 replaced.

    `private` is a directory that nobody else may enter. Unix sockets are removed on leaving.

    Raises:
        UsageError: an address that is none, or that cannot be had.
    """
    with contextlib.ExitStack() as stack:
        credentials = _credentials(settings.tls)
        found = []
        for address in settings.addresses:
            scheme, _, rest = address.partition("://")
            if scheme == "unix":
                stack.enter_context(_unix(server, rest, settings))
                found.append(address)
            elif scheme == "tcp":
                found.append(f"tcp://{_tcp(server, rest, credentials)}")
            elif scheme == "fd":
                stack.enter_context(_inherited(server, private))
                found.append(address)
            else:
                raise UsageError(f"{address}: not an address", hint="unix:///PATH, tcp://HOST:PORT or fd://")
        yield found


def _credentials(tls: Tls) -> grpc.ServerCredentials | None:
    if not (tls.cert or tls.key or tls.ca):
        return None
    if not (tls.cert and tls.key):
        raise UsageError("TLS needs a certificate and its key", hint="give both --tlscert and --tlskey")
    pair = (_read(tls.key), _read(tls.cert))
    if not tls.ca:
        return grpc.ssl_server_credentials([pair])
    return grpc.ssl_server_credentials([pair], root_certificates=_read(tls.ca), require_client_auth=True)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


@contextmanager
def _unix(server: grpc.Server, path: str, settings: DaemonSettings) -> Iterator[None]:
    os.makedirs(os.path.dirname(path) or ".", mode=0o711, exist_ok=True)
    if _answers(path):
        raise UsageError(f"unix://{path}: somebody listens there already", hint="choose another --addr, or stop it")
    mask = os.umask(0o177)  # the socket is there for no moment with more rights than it will have
    try:
        _bind(server, f"unix:{path}", None, f"unix://{path}")
    finally:
        os.umask(mask)
    gid = _group(settings.group)
    if gid >= 0 or settings.uid is not None:
        os.chown(path, -1 if settings.uid is None else settings.uid, gid)
    os.chmod(path, 0o660)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _group(name: str) -> int:
    if not name:
        return -1
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"--group {name}: there is no such group") from None


def _tcp(server: grpc.Server, place: str, credentials: grpc.ServerCredentials | None) -> str:
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdecimal():
        raise UsageError(f"tcp://{place}: not HOST:PORT")
    bound = _bind(server, place, credentials, f"tcp://{place}")
    return f"{host}:{bound}"


def _bind(server: grpc.Server, place: str, credentials: grpc.ServerCredentials | None, shown: str) -> int:
    try:
        if credentials is None:
            port = server.add_insecure_port(place)
        else:
            port = server.add_secure_port(place, credentials)
    except RuntimeError as error:
        raise UsageError(f"{shown}: cannot listen there: {error}") from error
    if not port:
        raise UsageError(f"{shown}: cannot listen there", hint="choose another --addr")
    return port


@contextmanager
def _inherited(server: grpc.Server, private: str) -> Iterator[None]:
    """Serve the sockets that systemd has opened: gRPC takes addresses only, so connections are passed on to ours."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise UsageError("fd://: no socket was handed over", hint="start the daemon by a systemd socket unit")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    inner = os.path.join(private, "inherited.sock")
    _bind(server, f"unix:{inner}", None, "fd://")
    sockets = [socket.socket(fileno=fd) for fd in range(_FIRST_FD, _FIRST_FD + count)]
    if not sockets:
        raise KnarrError("fd://: systemd has handed over no socket")
    with Scope() as scope:
        for listener in sockets:
            scope.attempt(_accept, listener, inner, scope)
        try:
            yield
        finally:
            scope.cancel()
            for listener in sockets:
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                listener.close()


def _accept(listener: socket.socket, inner: str, scope: Scope) -> None:
    while not scope.cancelled:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.socket(socket.AF_UNIX)
        far.connect(inner)
        scope.attempt(_pass_on, near, far, scope)
        scope.attempt(_pass_on, far, near, scope)


def _pass_on(source: socket.socket, target: socket.socket, scope: Scope) -> None:
    def cut() -> None:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    with scope.on_cancel(cut):
        try:
            while data := source.recv(_PIECE):
                target.sendall(data)
        except OSError:
            cut()
        else:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)
