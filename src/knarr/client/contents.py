"""Blobs of ours for a builder: read out of OCI layouts and local caches, written into layouts or the own store.

One session may lend several stores; each call names the one it means. A blob that is
here already is not taken once more, which is what makes loading an image again cheap.

Spec: BuildKit's session/content; containerd's services/content/v1 and its contentserver.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from knarr.buildkit.content import Content
from knarr.buildkit.failure import Told
from knarr.client.services import ALREADY_EXISTS, OUT_OF_RANGE, headers, not_there
from knarr.content.store import Store
from knarr.errors import ContentError, UsageError
from knarr.pb import content_pb2 as pb
from knarr.pb.status_pb2 import Status
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

    import grpc

    from knarr.content.ingest import Ingest

_HEADER = "buildkit-attachable-store-id"


@record
class LentStore:
    """A directory that is an OCI layout; `writer` takes blobs into it, None: it is only read."""

    root: Path
    writer: Store | None = None


class Contents:
    """`Content`, for several stores by their ids."""

    def __init__(self, stores: Mapping[str, LentStore]) -> None:
        self._stores = dict(stores)
        self._readers = {id: Content(lent.root / "blobs/sha256") for id, lent in stores.items()}
        self._lock = threading.Lock()
        self._writing: dict[tuple[str, str], pb.Status] = {}

    def _id(self, context: grpc.ServicerContext) -> str:
        id = "".join(headers(context).get(_HEADER, [])[:1])
        if id not in self._stores:
            raise not_there(f"unknown store {id}")
        return id

    def info(self, request: pb.InfoRequest, context: grpc.ServicerContext) -> pb.InfoResponse:
        return self._readers[self._id(context)].info(request, context)

    def list(self, request: pb.ListContentRequest, context: grpc.ServicerContext) -> Iterator[pb.ListContentResponse]:
        return self._readers[self._id(context)].list(request, context)

    def read(self, request: pb.ReadContentRequest, context: grpc.ServicerContext) -> Iterator[pb.ReadContentResponse]:
        return self._readers[self._id(context)].read(request, context)

    def update(self, request: pb.UpdateRequest, context: grpc.ServicerContext) -> pb.UpdateResponse:
        """Labels are the builder's own business: none is kept."""
        found = self.info(pb.InfoRequest(digest=request.info.digest), context)
        return pb.UpdateResponse(info=found.info)

    def status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusResponse:
        with self._lock:
            found = self._writing.get((self._id(context), request.ref))
        if found is None:
            raise not_there(f"nothing is being written as {request.ref}")
        return pb.StatusResponse(status=found)

    def list_statuses(self, request: pb.ListStatusesRequest, context: grpc.ServicerContext) -> pb.ListStatusesResponse:
        id = self._id(context)
        with self._lock:
            return pb.ListStatusesResponse(statuses=[found for (of, _), found in self._writing.items() if of == id])

    def abort(self, request: pb.AbortRequest, context: grpc.ServicerContext) -> Any:
        """Nothing is left of a write that has ended."""
        from google.protobuf.empty_pb2 import Empty

        return Empty()

    def write(
        self, requests: Iterator[pb.WriteContentRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.WriteContentResponse]:
        id = self._id(context)
        store = self._stores[id].writer
        if store is None:
            raise UsageError(f"store {id} is only read")
        first = next(requests, None)
        if first is None or not first.ref:
            raise UsageError("a write begins with a reference")
        known = pb.Status(ref=first.ref, total=first.total, expected=first.expected, started_at=_now())
        _check_new(store, first.expected)
        with self._lock:
            if (id, first.ref) in self._writing:
                raise Told(f"{first.ref} is being written already", status=Status(code=_UNAVAILABLE))
            self._writing[id, first.ref] = known
        try:
            with store.ingest() as blob:
                yield _taken(first, blob, store, known)
                for request in requests:
                    yield _taken(request, blob, store, known)
        finally:
            with self._lock:
                del self._writing[id, first.ref]


_UNAVAILABLE = 14  # of google.rpc.Code: try again


def _taken(request: pb.WriteContentRequest, blob: Ingest, store: Store, known: pb.Status) -> pb.WriteContentResponse:
    """Carry out one message, and say how far it has come."""
    known.total = request.total or known.total
    known.expected = request.expected or known.expected
    if request.action != pb.STAT:
        if request.offset != blob.size and (request.data or request.offset):
            raise Told(
                f"a write at {request.offset}, where {blob.size} bytes have come", status=Status(code=OUT_OF_RANGE)
            )
        if request.data:
            blob.write(request.data)
    known.offset = blob.size
    known.updated_at.CopyFrom(_now())
    digest = blob.digest
    if request.action == pb.COMMIT:
        _check_new(store, known.expected)
        wanted = _digest(known.expected) if known.expected else digest
        blob.commit(expected=Descriptor("", wanted, known.total or known.offset))
    return pb.WriteContentResponse(
        action=request.action,
        offset=known.offset,
        total=known.total,
        digest=str(digest),
        started_at=known.started_at,
        updated_at=known.updated_at,
    )


def _check_new(store: Store, expected: str) -> None:
    if expected and store.find(_digest(expected)) is not None:
        raise Told(f"blob {expected} is here already", status=Status(code=ALREADY_EXISTS))


def _digest(text: str) -> Digest:
    try:
        digest = Digest.parse(text)
    except ContentError as error:
        raise UsageError(f"{text!r} is no digest") from error
    if digest.algorithm != "sha256":
        raise UsageError(f"{digest}: only sha256 is kept")
    return digest


def _now() -> Timestamp:
    ns = time.time_ns()
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9)
