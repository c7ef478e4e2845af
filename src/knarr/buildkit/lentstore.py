"""A content store of the client's: blobs read out of it and written into it, over its session.

What it has already is not sent once more.

Spec: BuildKit's session/content; containerd's core/content/proxy and services/content/v1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc

from knarr.buildkit.content import CONTENT
from knarr.buildkit.failure import failure_of
from knarr.buildkit.upload import Pieces
from knarr.errors import KnarrError, NotFound, Unsupported
from knarr.pb import content_pb2 as pb
from knarr.spec.digest import Digest
from knarr.streams import Readable, VerifiedReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.buildkit.sessions import Client
    from knarr.scope import Scope
    from knarr.spec.descriptor import Descriptor

_HEADER = "buildkit-attachable-store-id"
_PIECE = 1 << 20  # clients take messages of 4 MiB
_AHEAD = 4  # pieces that are sent before the first of them is answered


class RemoteStore:
    """Implements `session.BlobPlace`: the client's store of this name."""

    def __init__(self, client: Client, name: str, scope: Scope) -> None:
        if not client.offers(CONTENT, "Info"):
            raise Unsupported(
                "the client lends no content", hint="it has to offer a content store, as buildctl and buildx do"
            )
        self._caller = client.caller(CONTENT)
        self._headers = [(_HEADER, name)]
        self._scope = scope

    def size_of(self, digest: Digest) -> int | None:
        """How large a blob is, or None when it is not there."""
        call = self._caller.begin("Info", pb.InfoRequest(digest=digest), metadata=self._headers)
        with self._scope.on_cancel(call.cancel):
            try:
                return int(call.result().info.size)
            except grpc.FutureCancelledError:
                self._scope.check()
                raise KnarrError("the client has left") from None
            except grpc.RpcError as error:
                failure = self._failure(error)
                if isinstance(failure, NotFound):
                    return None
                raise failure from None

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, whole."""
        return self.size_of(descriptor.digest) == descriptor.size

    def lends(self, descriptor: Descriptor) -> bool:
        """Whether `open` will find the blob."""
        return self.has(descriptor)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """The blob as a stream that is checked on the way.

        Raises (also while it is read):
            NotFound: it is not there.
        """
        request = pb.ReadContentRequest(digest=descriptor.digest)
        call = self._caller.stream("Read", request, metadata=self._headers)
        with self._scope.on_cancel(call.cancel):
            try:
                yield VerifiedReader(Pieces(call), descriptor.digest, descriptor.size)
            except grpc.RpcError as error:
                raise self._failure(error) from None
            finally:
                call.cancel()

    def push(self, descriptor: Descriptor, content: Readable, *, report: Callable[[int], None] | None = None) -> None:
        """Send a blob; it is there when it is complete and right. One that is there already is not sent."""
        ref = f"knarr-{descriptor.digest}"
        first = pb.WriteContentRequest(action=pb.STAT, ref=ref, total=descriptor.size, expected=descriptor.digest)
        queue: SimpleQueue[Any] = SimpleQueue()
        queue.put(first)
        call = self._caller.stream("Write", iter(queue.get, None), metadata=self._headers)
        with self._scope.on_cancel(call.cancel):
            try:
                _Writing(call, queue, ref, descriptor).run(content, self._scope, report)
            except grpc.RpcError as error:
                told: Any = error
                if told.code() is not grpc.StatusCode.ALREADY_EXISTS:
                    raise self._failure(error) from None
            finally:
                queue.put(None)  # a thread of gRPC's waits for it
                call.cancel()

    def _failure(self, error: grpc.RpcError) -> BaseException:
        self._scope.check()
        return failure_of(error)


class _Writing:
    """One blob on its way: pieces go out a few ahead of their answers."""

    def __init__(self, call: Iterator[Any], queue: SimpleQueue[Any], ref: str, descriptor: Descriptor) -> None:
        self._call = call
        self._queue = queue
        self._ref = ref
        self._descriptor = descriptor
        self._unanswered = 0

    def run(self, content: Readable, scope: Scope, report: Callable[[int], None] | None) -> None:
        offset = int(self._answer().offset)
        if offset:  # somebody began, and left: what he wrote is not known to be right
            self._send(pb.WRITE, 0, b"")
            self._answer()
        sent = 0
        while data := content.read(_PIECE):
            scope.check()
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                self._send(pb.WRITE, sent, bytes(piece))
                sent += len(piece)
                if self._unanswered >= _AHEAD:
                    self._answer()
                if report is not None:
                    report(sent)
        while self._unanswered:
            self._answer()
        self._send(pb.COMMIT, sent, b"")
        kept = self._answer().digest
        if kept != self._descriptor.digest:
            raise KnarrError(f"the client kept blob {self._descriptor.digest} as {kept or 'nothing'}")

    def _send(self, action: Any, offset: int, data: bytes) -> None:
        self._unanswered += 1
        self._queue.put(
            pb.WriteContentRequest(
                action=action,
                ref=self._ref,
                total=self._descriptor.size,
                expected=self._descriptor.digest if action == pb.COMMIT else "",
                offset=offset,
                data=data,
            )
        )

    def _answer(self) -> Any:
        answer = next(self._call, None)
        if answer is None:
            raise KnarrError("the client stopped taking what it is sent")
        self._unanswered = max(0, self._unanswered - 1)
        return answer
