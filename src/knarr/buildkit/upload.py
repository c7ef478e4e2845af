"""A stream that a client holds ready under a URL of its own, such as a context that came on its standard input.

Spec: BuildKit's session/upload.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from knarr.buildkit.failure import failure_of
from knarr.errors import Unsupported
from knarr.pb import upload_pb2

if TYPE_CHECKING:
    from knarr.buildkit.sessions import Client
    from knarr.pb.content_pb2 import ReadContentResponse
    from knarr.pb.upload_pb2 import BytesMessage
    from knarr.scope import Scope
    from knarr.streams import Readable

UPLOAD = upload_pb2.DESCRIPTOR.services_by_name["Upload"]


@contextmanager
def opened(client: Client, host: str, path: str, *, scope: Scope) -> Iterator[Readable]:
    """The bytes behind `http://HOST/PATH`, for as long as the block lasts. A client gives them once.

    Raises (also while they are read):
        KnarrError: the client does not have them, or breaks off.
        Cancelled: the scope was cancelled.
    """
    if not client.offers(UPLOAD, "Pull"):
        raise Unsupported(f"http://{host}{path}: the client sends no streams")
    headers = [("urlpath", path), ("urlhost", host)]
    call = client.caller(UPLOAD).stream("Pull", iter(()), metadata=headers)
    with scope.on_cancel(call.cancel):
        try:
            yield Pieces(call)
        except grpc.RpcError as error:
            scope.check()
            raise failure_of(error) from None
        finally:
            call.cancel()


class Pieces:
    """The messages of a call as one stream: what each has as `data`."""

    def __init__(self, call: Iterator[BytesMessage] | Iterator[ReadContentResponse]) -> None:
        self._call = call
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            message = next(self._call, None)
            if message is None:
                break
            parts.append(message.data)
            have += len(message.data)
        data = b"".join(parts)
        size = len(data) if size < 0 else size
        self._rest = data[size:]
        return data[:size]
