"""Blobs in one namespace of containerd's content store, read and written over gRPC.

A blob is written under a name of its own; what has arrived under it stays when the
writer dies, and the next one goes on from there. The name is that by which
containerd's own clients write the blob, so either goes on where the other stopped.

    content = Content(daemon)
    content.push(descriptor, stream)
    with content.open(descriptor) as stream:
        ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from knarr.containerd.client import Containerd
from knarr.containerd.failure import AlreadyExists, Busy, Refused
from knarr.containerd.lease import hold
from knarr.content.target import Report
from knarr.errors import DigestMismatch, NotFound, SizeMismatch
from knarr.pb import content_pb2 as pb
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import CHUNK, Readable, VerifiedReader

_CONTENT = pb.DESCRIPTOR.services_by_name["Content"]
_WINDOW = 4  # chunks that are under way before an answer is waited for
_BUSY_S = 60.0  # another writer of the same blob either ends in that time, or is told of
_LOOK_AGAIN_S = 0.2
_COLLECTED = "containerd's collector takes what no image and no lease holds: pull or build the image again"


class Content:
    """The content of one namespace. May be used from any thread."""

    def __init__(self, daemon: Containerd) -> None:
        self.daemon = daemon
        self._caller = daemon.caller(_CONTENT)

    def find(self, digest: Digest) -> int | None:
        """The size of the blob, or None when it is not here. Under a lease it stays from now on."""
        try:
            hold(self.daemon, digest)
            return int(self._caller.unary("Info", pb.InfoRequest(digest=digest)).info.size)
        except NotFound:
            return None

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here, whole."""
        return self.find(descriptor.digest) == descriptor.size

    def labels(self, digest: Digest) -> dict[str, str]:
        """The labels of a blob.

        Raises:
            NotFound
        """
        try:
            return dict(self._caller.unary("Info", pb.InfoRequest(digest=digest)).info.labels)
        except NotFound:
            raise _missing(digest) from None

    def label(self, digest: Digest, labels: Mapping[str, str]) -> None:
        """Give a blob these labels beside those it has.

        Raises:
            NotFound
        """
        if not labels:
            return
        mask = FieldMask(paths=[f"labels.{key}" for key in labels])
        try:
            self._caller.unary("Update", pb.UpdateRequest(info=pb.Info(digest=digest, labels=labels), update_mask=mask))
        except NotFound:
            raise _missing(digest) from None

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """The blob as a stream that verifies itself.

        Raises:
            NotFound: it is not here, or went while it was read.
        """
        # The first message is what tells whether it is there; an empty blob has none.
        call = self._caller.stream("Read", pb.ReadContentRequest(digest=descriptor.digest))
        try:
            stream = _Received(call, self.daemon, descriptor.digest)
            stream.begin()
            yield VerifiedReader(stream, descriptor.digest, descriptor.size, what=f"blob {descriptor.digest}")
        finally:
            call.cancel()

    def push(
        self,
        descriptor: Descriptor,
        content: Readable,
        *,
        report: Report | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Store a blob, from where an earlier attempt has come to. Already here is success.

        Raises:
            DigestMismatch, SizeMismatch: `content` is not what `descriptor` says; nothing is visible then.
            Busy: another client has been writing the same blob for a minute.
        """
        until = time.monotonic() + _BUSY_S
        while True:
            if self.has(descriptor):
                self.label(descriptor.digest, labels or {})
                return
            try:
                self._write(descriptor, content, report, labels or {})
                return
            except AlreadyExists:
                continue  # somebody else was faster; its labels are not ours
            except Busy:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_AGAIN_S)

    def _write(
        self, descriptor: Descriptor, content: Readable, report: Report | None, labels: Mapping[str, str]
    ) -> None:
        ref = _ref(descriptor)
        write = _Write(self._caller, self.daemon, ref, descriptor)
        try:
            offset = write.begin()
            if offset > descriptor.size:
                write.end()
                self._caller.unary("Abort", pb.AbortRequest(ref=ref))
                raise Busy(f"containerd: {ref} had more bytes than the blob has")  # begins anew
            _skip(content, offset)
            write.send(content, offset, report)
            write.commit(labels)
        except Refused as error:  # of the commit: what was there before us need not have been right
            write.end()
            self._caller.unary("Abort", pb.AbortRequest(ref=ref))
            raise DigestMismatch(
                f"blob {descriptor.digest}: containerd has received something else: {error.message}",
                hint="what it had of an earlier attempt was damaged: run it again",
            ) from None
        finally:
            write.end()


class _Write:
    """One call of `Write`: what goes out, and the answers, in step."""

    def __init__(self, caller: Any, daemon: Containerd, ref: str, descriptor: Descriptor) -> None:
        self._daemon, self._ref, self._descriptor = daemon, ref, descriptor
        self._out: SimpleQueue[pb.WriteContentRequest | None] = SimpleQueue()
        self._call = caller.stream("Write", iter(self._out.get, None))
        self._unanswered = 0

    def begin(self) -> int:
        """How many bytes are there already."""
        self._put(pb.STAT, total=self._descriptor.size, expected=self._descriptor.digest)
        return int(self._answer().offset)

    def send(self, content: Readable, offset: int, report: Report | None) -> None:
        total = self._descriptor.size
        while data := content.read(CHUNK):
            if offset + len(data) > total:
                raise SizeMismatch(f"blob {self._descriptor.digest}: expected {total} bytes, got more")
            self._put(pb.WRITE, offset=offset, data=data)
            offset += len(data)
            while self._unanswered >= _WINDOW:
                self._answer()
            if report is not None:
                report(offset)
        if offset < total:
            raise SizeMismatch(f"blob {self._descriptor.digest}: expected {total} bytes, got {offset}")
        while self._unanswered:
            self._answer()

    def commit(self, labels: Mapping[str, str]) -> None:
        size, digest = self._descriptor.size, self._descriptor.digest
        self._put(pb.COMMIT, offset=size, total=size, expected=digest, labels=labels)
        self._answer()

    def end(self) -> None:
        """Let go of the upload: another writer may go on with it."""
        self._out.put(None)
        self._call.cancel()

    def _put(self, action: pb.WriteAction, **fields: Any) -> None:
        self._out.put(pb.WriteContentRequest(action=action, ref=self._ref, **fields))
        self._unanswered += 1

    def _answer(self) -> pb.WriteContentResponse:
        self._unanswered -= 1
        try:
            answer: pb.WriteContentResponse = next(self._call)
        except grpc.RpcError as error:
            raise self._daemon.failure(error) from None
        except StopIteration:
            raise Busy("containerd ended an upload before it was whole") from None
        return answer


class _Received:
    """The answers of one call of `Read` as a stream."""

    def __init__(self, call: Any, daemon: Containerd, digest: Digest) -> None:
        self._call, self._daemon, self._digest = call, daemon, digest
        self._rest = memoryview(b"")
        self._ended = False

    def begin(self) -> None:
        """Wait for the first bytes."""
        self._next()

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            parts = []
            while data := self.read(CHUNK):
                parts.append(data)
            return b"".join(parts)
        if size and not self._rest:
            self._next()
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data

    def _next(self) -> None:
        while not self._ended and not self._rest:
            try:
                self._rest = memoryview(next(self._call).data)
            except StopIteration:
                self._ended = True
            except grpc.RpcError as error:
                failure = self._daemon.failure(error)
                raise (_missing(self._digest) if isinstance(failure, NotFound) else failure) from None


def _missing(digest: Digest) -> NotFound:
    return NotFound(f"blob {digest} is not in containerd, or not any more", hint=_COLLECTED)


def _ref(descriptor: Descriptor) -> str:
    """The name of an upload: remotes.MakeRefKey's, so that it can be resumed across clients."""
    kind = descriptor.media_type
    if mediatype.is_manifest(kind):
        word = "manifest"
    elif mediatype.is_index(kind):
        word = "index"
    elif mediatype.is_layer(kind):
        word = "layer"
    elif kind in (mediatype.OCI_CONFIG, mediatype.DOCKER_CONFIG):
        word = "config"
    else:
        word = "unknown"
    return f"{word}-{descriptor.digest}"


def _skip(content: Readable, count: int) -> None:
    """Read over what is there already: a stream that verifies itself must see it all the same."""
    while count > 0:
        data = content.read(min(count, CHUNK))
        if not data:
            return
        count -= len(data)
