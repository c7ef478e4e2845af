"""The clients that are there: each session by its id, with what it offers and the channel to call it.

sessions = Sessions(directory)
yield from sessions.attend(pieces, metadata)     # in Control.Session, as long as the client stays
client = sessions.get(id, wait_s=5)              # in Control.Solve, on another thread
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.buildkit.service import Caller
from knarr.buildkit.tokens import Wallet
from knarr.buildkit.tunnel import Tunnel
from knarr.errors import KnarrError
from knarr.record import record
from knarr.scope import Scope

if TYPE_CHECKING:
    import grpc
    from google.protobuf.descriptor import ServiceDescriptor

_ID = "x-docker-expose-session-uuid"
_NAME = "x-docker-expose-session-name"
_SHARED_KEY = "x-docker-expose-session-sharedkey"
_METHOD = "x-docker-expose-session-grpc-method"
_HEALTH = "/grpc.health.v1.Health/Check"
_PATIENCE = "x-buildkit-session-health-custom-timeout"

log = logging.getLogger("knarr.daemon")


@record
class Patience:
    """When a client that says nothing counts as gone: it is asked every so often, and has so long to answer."""

    every_s: float = 5.0  # BuildKit's
    answer_s: float = 30.0  # BuildKit's: a slow line full of data answers late
    silences: int = 2  # in a row


@record
class Client:
    """One session: a client that serves calls while it waits for its build."""

    id: str
    name: str
    shared_key: str  # names the place that the client's directories lie in; equal for builds that follow each other
    methods: frozenset[str]  # in lower case: "/moby.filesync.v1.filesync/diffcopy"
    channel: grpc.Channel

    def offers(self, service: ServiceDescriptor, method: str) -> bool:
        """Whether the client serves this method."""
        return f"/{service.full_name}/{method}".lower() in self.methods

    def caller(self, service: ServiceDescriptor) -> Caller:
        """Calls to one of the client's services."""
        return Caller(self.channel, service)


class Sessions:
    """The sessions that are open. Safe from several threads."""

    def __init__(self, directory: Path, patience: Patience | None = None) -> None:
        """`directory` is private: sockets lie there for a moment while a session opens."""
        self._directory = directory
        self._patience = patience or Patience()
        self._changed = threading.Condition()
        self._clients: dict[str, Client] = {}
        self._tunnels: dict[str, Tunnel] = {}
        self._closed = False
        self.wallet = Wallet()  # tokens for registries that clients have fetched

    def attend(
        self,
        pieces: Iterator[bytes],
        metadata: Sequence[tuple[str, str | bytes]],
        *,
        hang_up: Callable[[], object] = lambda: None,
    ) -> Iterator[bytes]:
        """Keep a session open until its client leaves; takes and gives the pieces of its connection.

        `hang_up` makes `pieces` end, from any thread, whatever the client does.

        Raises:
            KnarrError: it has no id, or one that is taken.
        """
        with Tunnel(self._directory) as tunnel:
            client = _client(tunnel, metadata)
            tunnel.connect()
            self._enter(client, tunnel)
            try:
                with Scope() as scope:
                    scope.attempt(self._watch, client, _patience(metadata, self._patience), tunnel, scope, hang_up)
                    try:
                        yield from tunnel.carry(pieces)
                    finally:
                        scope.cancel()
            finally:
                self._leave(client)

    def _watch(
        self, client: Client, patience: Patience, tunnel: Tunnel, scope: Scope, hang_up: Callable[[], object]
    ) -> None:
        """Break the session off when its client is silent: its builds would wait for ever."""
        silences = 0
        while silences < patience.silences:
            scope.sleep(patience.every_s)
            silences = 0 if _answers(client.channel, patience.answer_s, scope) else silences + 1
        log.warning("session %s: its client does not answer any more", client.id)
        tunnel.cut()
        hang_up()

    def get(self, id: str, *, wait_s: float = 0.0) -> Client | None:
        """The client of session `id`, which may open up to `wait_s` later; None: there is none.

        A prefix `NAME:` before the id, by which a client tells its contexts apart, does not count.
        """
        plain = id.rpartition(":")[2] or id
        with self._changed:
            self._changed.wait_for(lambda: plain in self._clients or self._closed, wait_s)
            return self._clients.get(plain)

    @property
    def count(self) -> int:
        """How many are open."""
        with self._changed:
            return len(self._clients)

    def close(self) -> None:
        """Break off all sessions; later ones are refused."""
        with self._changed:
            self._closed = True
            tunnels = list(self._tunnels.values())
            self._changed.notify_all()
        for tunnel in tunnels:
            tunnel.cut()

    def _enter(self, client: Client, tunnel: Tunnel) -> None:
        with self._changed:
            if self._closed:
                raise KnarrError("the daemon is shutting down", hint="start the build again when it is back")
            if client.id in self._clients:
                raise KnarrError(f"session {client.id} already exists")
            self._clients[client.id] = client
            self._tunnels[client.id] = tunnel
            self._changed.notify_all()

    def _leave(self, client: Client) -> None:
        with self._changed:
            del self._clients[client.id]
            del self._tunnels[client.id]
            self._changed.notify_all()


def _answers(channel: grpc.Channel, within_s: float, scope: Scope) -> bool:
    """Whether the client says anything at all in time, be it that it has no such method."""
    from grpc import FutureCancelledError, RpcError, StatusCode

    check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_HEALTH)
    call = check.future(b"", timeout=within_s)
    with scope.on_cancel(call.cancel):
        try:
            call.result()
        except FutureCancelledError:
            return True
        except RpcError as error:
            return error.code() is not StatusCode.DEADLINE_EXCEEDED
        return True


def _headers(metadata: Sequence[tuple[str, str | bytes]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for key, value in metadata:
        values.setdefault(key.lower(), []).append(value if isinstance(value, str) else value.decode(errors="replace"))
    return values


def _patience(metadata: Sequence[tuple[str, str | bytes]], usual: Patience) -> Patience:
    """What the client asks for: milliseconds within which it answers, or is gone; of nonsense nothing is made."""
    text = _headers(metadata).get(_PATIENCE, [""])[0]
    if not text.isascii() or not text.isdigit() or not int(text):
        return usual
    seconds = max(int(text) / 1000, 1.0)  # as BuildKit has it: no machine is that fast under load
    return Patience(seconds, seconds, silences=1)


def _client(tunnel: Tunnel, metadata: Sequence[tuple[str, str | bytes]]) -> Client:
    values = _headers(metadata)
    id = values.get(_ID, [""])[0]
    if not id:
        raise KnarrError(f"a session needs an id: header {_ID}")
    return Client(
        id,
        values.get(_NAME, [""])[0],
        values.get(_SHARED_KEY, [""])[0],
        frozenset(method.lower() for method in values.get(_METHOD, ())),
        tunnel.channel,
    )
