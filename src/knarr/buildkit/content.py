"""Blobs of one side for the other to read: the daemon's logs and its content store, a client's layouts and caches.

Spec: containerd's services/content/v1; read only, as buildkitd serves it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from knarr.buildkit.failure import Told
from knarr.errors import ContentError, UsageError
from knarr.pb import content_pb2 as pb
from knarr.pb.status_pb2 import Status
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    import grpc

CONTENT = pb.DESCRIPTOR.services_by_name["Content"]
_PIECE = 1 << 20  # bytes of one answer
_MANY = 100  # entries of one answer
_NOT_FOUND = 5  # of google.rpc.Code


class Content:
    """One method per call that reads; those that write are not served."""

    def __init__(self, *directories: Path) -> None:
        """Each of `directories` has blobs under the hex of their sha256; the first that has one counts."""
        self._directories = directories

    def info(self, request: pb.InfoRequest, context: grpc.ServicerContext) -> pb.InfoResponse:
        return pb.InfoResponse(info=_info(self._find(request.digest)))

    def list(self, request: pb.ListContentRequest, context: grpc.ServicerContext) -> Iterator[pb.ListContentResponse]:
        if request.filters:
            raise UsageError("content cannot be filtered")
        names = {name: directory for directory in reversed(self._directories) for name in _names(directory)}
        answer = pb.ListContentResponse()
        for name in sorted(names):
            try:
                answer.info.append(_info(names[name] / name))
            except FileNotFoundError:
                continue  # it was just removed
            if len(answer.info) == _MANY:
                yield answer
                answer = pb.ListContentResponse()
        if answer.info:
            yield answer

    def read(self, request: pb.ReadContentRequest, context: grpc.ServicerContext) -> Iterator[pb.ReadContentResponse]:
        path = self._find(request.digest)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not 0 <= request.offset <= size or request.size < 0:
                raise UsageError(f"{request.digest} has {size} bytes: none at {request.offset}")
            end = min(size, request.offset + request.size) if request.size else size
            at = file.seek(request.offset)
            while at < end and (data := file.read(min(_PIECE, end - at))):
                yield pb.ReadContentResponse(offset=at, data=data)
                at += len(data)

    def _find(self, text: str) -> Path:
        try:
            digest = Digest.parse(text)
        except ContentError as error:
            raise UsageError(f"{text!r} is no digest") from error
        for directory in self._directories:
            path = directory / digest.hex
            if digest.algorithm == "sha256" and path.is_file():
                return path
        raise Told(f"content {digest}: not found", status=Status(code=_NOT_FOUND))


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _info(path: Path) -> pb.Info:
    status = path.stat()
    info = pb.Info(digest=f"sha256:{path.name}", size=status.st_size)
    for field in (info.created_at, info.updated_at):
        field.CopyFrom(Timestamp(seconds=status.st_mtime_ns // 10**9, nanos=status.st_mtime_ns % 10**9))
    return info
