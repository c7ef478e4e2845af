"""The addresses a daemon listens at: unix sockets, tcp with and without TLS, sockets that systemd has opened."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from knarr.buildkit.unixsocket import answers
from knarr.daemon.settings import Tls
from knarr.errors import KnarrError, UsageError
from knarr.scope import Scope

if TYPE_CHECKING:
    import ssl

    from knarr.daemon.settings import DaemonSettings

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
        secured = None
        if settings.tls != Tls():
            from knarr.daemon.tlsfront import context

            secured = context(settings.tls)
        found = []
        for address in settings.addresses:
            scheme, _, rest = address.partition("://")
            if scheme == "unix":
                stack.enter_context(_unix(server, rest, settings))
                found.append(address)
            elif scheme == "tcp":
                if secured is None:
                    found.append(f"tcp://{_tcp(server, rest)}")
                else:
                    found.append(stack.enter_context(_secured(server, rest, secured, private)))
            elif scheme == "fd":
                stack.enter_context(_inherited(server, private, secured))
                found.append(address)
            else:
                raise UsageError(f"{address}: not an address", hint="unix:///PATH, tcp://HOST:PORT or fd://")
        yield found


@contextmanager
def _unix(server: grpc.Server, path: str, settings: DaemonSettings) -> Iterator[None]:
    os.makedirs(os.path.dirname(path) or ".", mode=0o711, exist_ok=True)
    if answers(path):
        raise UsageError(f"unix://{path}: somebody listens there already", hint="choose another --addr, or stop it")
    mask = os.umask(0o177)  # the socket is there for no moment with more rights than it will have
    try:
        _bind(server, f"unix:{path}", f"unix://{path}")
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


@contextmanager
def trace_socket(server: grpc.Server, path: str) -> Iterator[None]:
    """Have `server` listen at `path` for steps, whoever they run as.

    Raises:
        UsageError: it cannot be had.
    """
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if answers(path):
        raise UsageError(f"--otel-socket-path {path}: somebody listens there already", hint="choose another path")
    _bind(server, f"unix:{path}", path)
    os.chmod(path, 0o666)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _group(name: str) -> int:
    if not name:
        return -1
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"--group {name}: there is no such group") from None


def _tcp(server: grpc.Server, place: str) -> str:
    host, _ = _parts(place)
    return f"{host}:{_bind(server, place, f'tcp://{place}')}"


def _parts(place: str) -> tuple[str, int]:
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"tcp://{place}: not HOST:PORT")
    return host, int(port)


@contextmanager
def _secured(server: grpc.Server, place: str, secured: ssl.SSLContext, private: str) -> Iterator[str]:
    """Serve TLS at HOST:PORT; gives the address as it is."""
    from knarr.daemon.tlsfront import front

    host, port = _parts(place)
    bare = host.strip("[]")
    try:
        listener = socket.create_server(
            (bare, port), family=socket.AF_INET6 if ":" in bare else socket.AF_INET, backlog=128
        )
    except OSError as error:
        raise UsageError(f"tcp://{place}: cannot listen there: {error.strerror}") from error
    with front([listener], secured, _behind(server, private)):
        yield f"tcp://{host}:{listener.getsockname()[1]}"


def _behind(server: grpc.Server, private: str) -> str:
    """A socket in the private directory that the server serves, for what stands in front of it."""
    inner = os.path.join(private, f"{os.urandom(6).hex()}.sock")
    _bind(server, f"unix:{inner}", "a private socket")
    return inner


def _bind(server: grpc.Server, place: str, shown: str) -> int:
    try:
        port = server.add_insecure_port(place)
    except RuntimeError as error:
        raise UsageError(f"{shown}: cannot listen there: {error}") from error
    if not port:
        raise UsageError(f"{shown}: cannot listen there", hint="choose another --addr")
    return port


@contextmanager
def _inherited(server: grpc.Server, private: str, secured: ssl.SSLContext | None) -> Iterator[None]:
    """Serve the sockets that systemd has opened: gRPC takes addresses only, so connections are passed on to ours.

    Where there are certificates, those that are no unix sockets speak TLS.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise UsageError("fd://: no socket was handed over", hint="start the daemon by a systemd socket unit")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    inner = _behind(server, private)
    sockets = [socket.socket(fileno=fd) for fd in range(_FIRST_FD, _FIRST_FD + count)]
    if not sockets:
        raise KnarrError("fd://: systemd has handed over no socket")
    plain = [each for each in sockets if secured is None or each.family == socket.AF_UNIX]
    with contextlib.ExitStack() as stack:
        if secured is not None and len(plain) < len(sockets):
            from knarr.daemon.tlsfront import front

            stack.enter_context(front([each for each in sockets if each not in plain], secured, inner))
        stack.enter_context(_accepting(plain, inner))
        yield


@contextmanager
def _accepting(sockets: Sequence[socket.socket], inner: str) -> Iterator[None]:
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
