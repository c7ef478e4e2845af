"""What a build gives to its client: an archive as bytes, or a directory, entry by entry.

Spec: BuildKit's session/filesync (FileSend); fsutil's send.go.
"""

from __future__ import annotations

import os
import stat as kinds
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Full, Queue, SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc

from knarr.buildkit.failure import failure_of
from knarr.buildkit.filesync import encoded
from knarr.buildkit.gomode import go_mode
from knarr.errors import KnarrError, Unsupported
from knarr.pb import filesync_pb2
from knarr.pb.filesync_pb2 import BytesMessage
from knarr.pb.packet_pb2 import Packet
from knarr.pb.stat_pb2 import Stat
from knarr.scope import TICK_S, Scope
from knarr.streams import Writable

if TYPE_CHECKING:
    from knarr.buildkit.sessions import Client

FILE_SEND = filesync_pb2.DESCRIPTOR.services_by_name["FileSend"]
_PIECE = 1 << 20  # clients take messages of 4 MiB, of which BuildKit fills 3
_DATA = 64 << 10  # of one file among others
_AHEAD = 8  # messages that wait to be sent


@contextmanager
def sent_file(client: Client, number: int, about: Mapping[str, str], *, scope: Scope) -> Iterator[Writable]:
    """What is written in the block goes to the client, as its output `number`; complete when the block is left.

    Raises:
        KnarrError: the client does not take it.
        Cancelled: the scope was cancelled.
    """
    headers = [pair for key, text in about.items() for pair in encoded(f"exporter-md-{key}", (text,))]
    with _Stream(client, number, headers, BytesMessage, scope) as stream:
        yield _Bytes(stream)
        stream.end()


class _Stream:
    """One call of the client's, fed through a short queue: who writes waits for the network."""

    def __init__(
        self, client: Client, number: int, headers: list[tuple[str, str]], answer: type[Any], scope: Scope
    ) -> None:
        if not client.offers(FILE_SEND, "DiffCopy"):
            raise Unsupported("the client takes no files", hint="name a destination on its side: --output dest=…")
        self._queue: Queue[Any] = Queue(_AHEAD)
        self._scope = scope
        headers = [("buildkit-attachable-exporter-id", str(number)), *headers]
        self.call = client.caller(FILE_SEND).stream(
            "DiffCopy", iter(self._queue.get, None), metadata=headers, answer=answer
        )

    def __enter__(self) -> _Stream:
        self._cancelling = self._scope.on_cancel(self.call.cancel)
        self._cancelling.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: object) -> None:
        self._cancelling.__exit__(None, None, None)
        self.call.cancel()
        while True:  # a thread of gRPC's waits for the end
            try:
                self._queue.put_nowait(None)
                break
            except Full:
                try:
                    self._queue.get_nowait()
                except Empty:
                    continue
        if isinstance(error, grpc.RpcError):
            self._scope.check()
            raise failure_of(error) from None

    def put(self, message: Any) -> None:
        """Send one message, when there is room.

        Raises:
            KnarrError: the client has ended the call.
        """
        while True:
            self._scope.check()
            if self.call.done():
                self.end()
                if self.call.code() is grpc.StatusCode.ALREADY_EXISTS:
                    return
                raise KnarrError("the client stopped taking what it asked for")
            try:
                self._queue.put(message, timeout=TICK_S)
                return
            except Full:
                continue

    def end(self) -> None:
        """Nothing more comes; waits until the client has everything."""
        while not self.call.done():
            self._scope.check()
            try:
                self._queue.put(None, timeout=TICK_S)
                break
            except Full:
                continue
        try:
            for _ in self.call:
                pass
        except grpc.RpcError as error:
            call: Any = error
            if call.code() is grpc.StatusCode.ALREADY_EXISTS:
                return  # the client has the same already
            self._scope.check()
            raise failure_of(error) from None


class _Bytes:
    """The writable end of a stream."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def write(self, data: bytes, /) -> int:
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            self._stream.put(BytesMessage(data=bytes(view[start : start + _PIECE])))
        return len(data)


def send_tree(
    client: Client,
    number: int,
    roots: Mapping[str, Path],
    *,
    scope: Scope,
    epoch_ns: int | None = None,
    replaces: bool = False,
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Send directories to the client, each below its name ("": the one there is, at the top); gives up what it cannot.

    `more` are files that lie elsewhere, by the directory's name and their own in it.
    `epoch_ns` replaces all times. With `replaces` the client removes what it was not sent.

    Raises:
        KnarrError: the client does not take them.
        Cancelled: the scope was cancelled.
    """
    headers = [("buildkit-exporter-multi-platform", "1")] if replaces else []
    with _Stream(client, number, headers, Packet, scope) as stream, Scope() as threads:
        wanted: SimpleQueue[int | str | None] = SimpleQueue()
        threads.attempt(_listen, stream.call, wanted)
        try:
            _Sender(stream, scope, epoch_ns).run(roots, more or {}, wanted)
        finally:
            stream.call.cancel()


def _listen(call: Iterator[Packet], wanted: SimpleQueue[int | str | None]) -> None:
    """Pass on what the client asks for; None when it has all, a text when it failed."""
    try:
        for packet in call:
            if packet.type == Packet.PACKET_REQ:
                wanted.put(packet.ID)
            elif packet.type == Packet.PACKET_ERR:
                wanted.put(packet.data.decode(errors="replace") or "it failed without saying why")
                return
            elif packet.type == Packet.PACKET_FIN:
                wanted.put(None)
                return
        wanted.put("it ended the transfer before it had all")
    except grpc.RpcError as error:
        wanted.put(str(failure_of(error)) or "it has left")


class _Sender:
    """The packets of one transfer, as they go out."""

    def __init__(self, stream: _Stream, scope: Scope, epoch_ns: int | None) -> None:
        self._stream = stream
        self._scope = scope
        self._epoch_ns = epoch_ns
        self._files: dict[int, str] = {}
        self._links: dict[tuple[int, int], str] = {}
        self._count = 0

    def run(
        self,
        roots: Mapping[str, Path],
        more: Mapping[str, Mapping[str, str]],
        wanted: SimpleQueue[int | str | None],
    ) -> None:
        for name in sorted(roots, key=os.fsencode):
            self._tell_all(os.fspath(roots[name]), name, more.get(name, {}))
        self._stream.put(Packet(type=Packet.PACKET_STAT))
        while (asked := self._next(wanted)) is not None:
            if isinstance(asked, str):
                raise KnarrError(f"the client could not take the files: {asked}")
            self._send(asked)
        self._stream.put(Packet(type=Packet.PACKET_FIN))
        self._stream.end()

    def _next(self, wanted: SimpleQueue[int | str | None]) -> int | str | None:
        while True:
            self._scope.check()
            try:
                return wanted.get(timeout=TICK_S)
            except Empty:
                continue

    def _tell_all(self, root: str, name: str, more: Mapping[str, str]) -> None:
        """Tell every entry, in the order of the paths' parts; with a stack, for trees deeper than Python's frames."""
        if name:
            top = Stat(path=name, mode=go_mode(kinds.S_IFDIR | 0o755), modTime=self._epoch_ns or 0)
            self._tell(top, root)
        levels = [(root, name, iter(sorted({*os.listdir(root), *more}, key=os.fsencode)))]
        while levels:
            path, shown, names = levels[-1]
            entry = next(names, None)
            if entry is None:
                levels.pop()
                continue
            self._scope.check()
            place = more[entry] if entry in more and len(levels) == 1 else f"{path}/{entry}"
            told = f"{shown}/{entry}" if shown else entry
            status = os.lstat(place)
            if kinds.S_ISSOCK(status.st_mode):
                continue  # a socket means nothing elsewhere
            self._tell(self._stat(told, place, status), place)
            if kinds.S_ISDIR(status.st_mode):
                levels.append((place, told, iter(sorted(os.listdir(place), key=os.fsencode))))

    def _tell(self, stat: Stat, place: str) -> None:
        self._files[self._count] = place
        self._count += 1
        self._stream.put(Packet(type=Packet.PACKET_STAT, stat=stat))

    def _stat(self, told: str, place: str, status: os.stat_result) -> Stat:
        stat = Stat(
            path=told,
            mode=go_mode(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size,
            modTime=status.st_mtime_ns if self._epoch_ns is None else self._epoch_ns,
        )
        if kinds.S_ISLNK(status.st_mode):
            stat.linkname = os.readlink(place)
        elif kinds.S_ISCHR(status.st_mode) or kinds.S_ISBLK(status.st_mode):
            stat.devmajor, stat.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        elif not kinds.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), told)
            if first != told:
                stat.linkname = first
        return stat

    def _send(self, number: int) -> None:
        place = self._files.pop(number, None)
        if place is None:
            raise KnarrError(f"the client asked for entry {number}, which it was not told of")
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while data := os.read(descriptor, _DATA):
                self._stream.put(Packet(type=Packet.PACKET_DATA, ID=number, data=data))
        finally:
            os.close(descriptor)
        self._stream.put(Packet(type=Packet.PACKET_DATA, ID=number))
