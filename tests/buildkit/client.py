"""A client of the daemon's, made from the protocol: it opens a session and serves files, secrets and logins on it.

Written apart from `knarr.buildkit`: what sends here is no code of the one that receives there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import grpc

from knarr.pb import auth_pb2, control_pb2, filesync_pb2, secrets_pb2, sshforward_pb2, upload_pb2
from knarr.pb.packet_pb2 import Packet
from knarr.pb.stat_pb2 import Stat

BYTES = control_pb2.BytesMessage
_SERVICES = {
    "FileSync": filesync_pb2.DESCRIPTOR.services_by_name["FileSync"],
    "FileSend": filesync_pb2.DESCRIPTOR.services_by_name["FileSend"],
    "Secrets": secrets_pb2.DESCRIPTOR.services_by_name["Secrets"],
    "Auth": auth_pb2.DESCRIPTOR.services_by_name["Auth"],
    "Upload": upload_pb2.DESCRIPTOR.services_by_name["Upload"],
    "SSH": sshforward_pb2.DESCRIPTOR.services_by_name["SSH"],
}


class Client:
    """One session. `asked` are the headers of the file transfers that were asked for; `sent` counts files' contents."""

    def __init__(
        self,
        channel: grpc.Channel,
        scratch: Path,
        *,
        id: str = "the-session",
        directories: Mapping[str, Path] | None = None,
        secrets: Mapping[str, bytes] | None = None,
        logins: Mapping[str, tuple[str, str]] | None = None,
        shared_key: str = "key",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.id = id
        self.directories = dict(directories or {})
        self.secrets = dict(secrets or {})
        self.logins = dict(logins or {})
        self.uploads: dict[str, bytes] = {}  # by path, each given once
        self.asked: list[dict[str, list[str]]] = []
        self.sent: list[str] = []
        self.files: dict[str, bytes] = {}  # outputs by number
        self.trees: dict[str, dict[str, tuple[Stat, bytes]]] = {}
        self.answers: dict[str, tuple[type[Any], Callable[[Any], Any]]] = {}  # to more calls: "/service/method"
        self._channel = channel
        self._scratch = scratch
        self._shared_key = shared_key
        self._headers = headers
        self._pool = ThreadPoolExecutor(32)

    def __enter__(self) -> Client:
        path = self._scratch / f"{self.id}.sock"
        self._server = grpc.server(self._pool)
        for handler in self._handlers():
            self._server.add_generic_rpc_handlers((handler,))
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()
        self._near = socket.socket(socket.AF_UNIX)
        self._near.connect(os.fspath(path))
        methods = [f"/{s.full_name}/{m.name}" for s in _SERVICES.values() for m in s.methods] + list(self.answers)
        headers = [
            ("x-docker-expose-session-uuid", self.id),
            ("x-docker-expose-session-name", "test"),
            ("x-docker-expose-session-sharedkey", self._shared_key),
            *(("x-docker-expose-session-grpc-method", method) for method in methods),
            *self._headers,
        ]
        stub = self._channel.stream_stream(
            "/moby.buildkit.v1.Control/Session",
            request_serializer=BYTES.SerializeToString,
            response_deserializer=BYTES.FromString,
        )
        self.call = stub(self._outgoing(), metadata=headers)
        self._incoming = threading.Thread(target=self._pump)
        self._incoming.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.leave()
        self._server.stop(0).wait()
        self._pool.shutdown()

    def leave(self) -> None:
        """Vanish, without a word."""
        self.call.cancel()
        with contextlib.suppress(OSError):
            self._near.shutdown(socket.SHUT_RDWR)
        self._incoming.join()
        self._near.close()

    def _outgoing(self) -> Iterator[control_pb2.BytesMessage]:
        while True:
            try:
                data = self._near.recv(65536)
            except OSError:
                return
            if not data:
                return
            yield BYTES(data=data)

    def _pump(self) -> None:
        with contextlib.suppress(grpc.RpcError, OSError):
            for message in self.call:
                self._near.sendall(message.data)

    def _handlers(self) -> list[grpc.GenericRpcHandler]:
        def unary(call: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(call, request.FromString, lambda m: m.SerializeToString())

        def stream(call: Any, request: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(call, request.FromString, lambda m: m.SerializeToString())

        services: dict[str, dict[str, Any]] = {
            "FileSync": {"DiffCopy": stream(self._send, Packet)},
            "FileSend": {"DiffCopy": grpc.stream_stream_rpc_method_handler(self._receive, None, None)},
            "Secrets": {"GetSecret": unary(self._secret, secrets_pb2.GetSecretRequest)},
            "Upload": {"Pull": stream(self._pull, upload_pb2.BytesMessage)},
            "Auth": {"Credentials": unary(self._login, auth_pb2.CredentialsRequest)},
            "SSH": {
                "CheckAgent": unary(self._check_agent, sshforward_pb2.CheckAgentRequest),
                "ForwardAgent": stream(self._echo, sshforward_pb2.BytesMessage),
            },
        }
        return [
            grpc.method_handlers_generic_handler(_SERVICES[name].full_name, methods)
            for name, methods in services.items()
        ] + [
            grpc.method_handlers_generic_handler(
                path.split("/")[1],
                {path.split("/")[2]: unary(lambda request, _, answer=answer: answer(request), asked)},
            )
            for path, (asked, answer) in self.answers.items()
        ]

    # --- files out

    def _send(self, requests: Iterator[Packet], context: grpc.ServicerContext) -> Iterator[Packet]:
        headers = _headers(context)
        self.asked.append(headers)
        root = self.directories.get(headers["dir-name"][0])
        if root is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f'no access allowed to dir "{headers["dir-name"][0]}"')
        yield from self.packets(root, requests)

    def packets(self, root: Path, requests: Iterator[Packet]) -> Iterator[Packet]:
        """What is sent for `root`; a test that wants a liar replaces this."""
        stats = list(walk(root))
        yield from (Packet(type=Packet.PACKET_STAT, stat=told) for told in stats)
        yield Packet(type=Packet.PACKET_STAT)
        for request in requests:
            if request.type == Packet.PACKET_FIN:
                yield Packet(type=Packet.PACKET_FIN)
                return
            path = stats[request.ID].path
            self.sent.append(path)
            data = (root / path).read_bytes()
            for start in range(0, len(data), 32768):
                yield Packet(type=Packet.PACKET_DATA, ID=request.ID, data=data[start : start + 32768])
            yield Packet(type=Packet.PACKET_DATA, ID=request.ID)

    # --- files in

    def _receive(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        headers = _headers(context)
        number = headers["buildkit-attachable-exporter-id"][0]
        if number.startswith("9"):  # the tests' numbers for directories
            yield from self._receive_tree(requests, number)
            return
        self.asked.append(headers)
        messages = map(filesync_pb2.BytesMessage.FromString, requests)
        self.files[number] = b"".join(message.data for message in messages)

    def _receive_tree(self, requests: Iterator[bytes], number: str) -> Iterator[bytes]:
        stats: list[Stat] = []
        contents: dict[int, bytearray] = {}
        left: set[int] = set()
        for packet in map(Packet.FromString, requests):
            if packet.type == Packet.PACKET_STAT and packet.HasField("stat"):
                stats.append(packet.stat)
            elif packet.type == Packet.PACKET_STAT:
                left = {i for i, s in enumerate(stats) if not s.mode >> 19 and not s.linkname}
                for i in sorted(left):
                    yield Packet(type=Packet.PACKET_REQ, ID=i).SerializeToString()
                if not left:
                    yield Packet(type=Packet.PACKET_FIN).SerializeToString()
            elif packet.type == Packet.PACKET_DATA and packet.data:
                contents.setdefault(packet.ID, bytearray()).extend(packet.data)
            elif packet.type == Packet.PACKET_DATA:
                left.discard(packet.ID)
                if not left:
                    yield Packet(type=Packet.PACKET_FIN).SerializeToString()
        self.trees[number] = {s.path: (s, bytes(contents.get(i, b""))) for i, s in enumerate(stats)}

    # --- the rest

    def _pull(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        data = self.uploads.pop(_headers(context)["urlpath"][0], None)
        if data is None:
            context.abort(grpc.StatusCode.UNKNOWN, "no http response from session")
        for start in range(0, len(data), 32768):
            yield upload_pb2.BytesMessage(data=data[start : start + 32768])

    def _secret(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.ID not in self.secrets:
            context.abort(grpc.StatusCode.NOT_FOUND, f"secret {request.ID}: not found")
        return secrets_pb2.GetSecretResponse(data=self.secrets[request.ID])

    def _login(self, request: Any, context: grpc.ServicerContext) -> Any:
        username, secret = self.logins.get(request.Host, ("", ""))
        return auth_pb2.CredentialsResponse(Username=username, Secret=secret)

    def _check_agent(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.ID != "default":
            context.abort(grpc.StatusCode.UNKNOWN, f"unset ssh forward key {request.ID}")
        return sshforward_pb2.CheckAgentResponse()

    def _echo(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for message in requests:
            yield sshforward_pb2.BytesMessage(data=message.data.upper())


def walk(root: Path, below: str = "") -> Iterator[Stat]:
    """The entries below `root` as a client of BuildKit's tells them: owners zeroed, in the order of names."""
    for name in sorted(os.listdir(root / below)):
        path = f"{below}/{name}" if below else name
        found = os.lstat(root / path)
        told = Stat(path=path, size=found.st_size, modTime=found.st_mtime_ns, mode=stat.S_IMODE(found.st_mode) & 0o777)
        if stat.S_ISDIR(found.st_mode):
            told.mode |= 1 << 31
        elif stat.S_ISLNK(found.st_mode):
            told.mode |= 1 << 27
            told.linkname = os.readlink(root / path)
        yield told
        if stat.S_ISDIR(found.st_mode):
            yield from walk(root, path)


def _headers(context: grpc.ServicerContext) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for key, value in context.invocation_metadata():
        values.setdefault(key, []).append(str(value))
    return {
        key: [unquote_plus(text) for text in texts] if f"{key}-encoded" in values else texts
        for key, texts in values.items()
    }
