"""Blobs: HEAD, GET with ranges, DELETE.

A large blob goes to the socket past the event loop: see `pouring`.

Spec: distribution-spec v1.1, end-2 and end-10; RFC 9110, "Range Requests".
"""

from __future__ import annotations

import os
import re
import time

from aiohttp import web

from knarr.registry import tables
from knarr.registry.call import OCTETS, Call, answer
from knarr.registry.events import Event
from knarr.registry.parts import Parts
from knarr.registry.refusal import Refusal, blob_unknown, not_allowed
from knarr.registry.rights import DELETE
from knarr.registry.routes import checked_digest
from knarr.spec.digest import Digest

_INLINE = 64 << 10  # bytes that are read faster than a thread is woken
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_YEAR = "max-age=31536000"  # what has a digest never changes


async def respond(parts: Parts, call: Call) -> web.StreamResponse:
    """Answer a request for one blob."""
    digest = checked_digest(call.route.reference)
    if call.method in ("GET", "HEAD"):
        return await _read(parts, call, digest)
    if call.method == "DELETE":
        return await _delete(parts, call, digest)
    raise not_allowed(call.method, "GET", "HEAD", "DELETE")


async def _read(parts: Parts, call: Call, digest: Digest) -> web.StreamResponse:
    repository = call.route.repository
    size = parts.ledger.read(lambda db: tables.blob_size(db, repository, digest))
    if size is None or parts.store.find(digest) is None:
        raise blob_unknown(digest)
    headers = {
        "Content-Type": OCTETS,
        "Docker-Content-Digest": digest,
        "Accept-Ranges": "bytes",
        "ETag": f'"{digest}"',
        "Cache-Control": _YEAR,
    }
    asked = call.request.headers
    if asked.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    first, last = 0, size - 1
    status = 200
    if "Range" in asked and asked.get("If-Range", headers["ETag"]) == headers["ETag"]:
        part = ranged(asked["Range"], size)
        if part is not None:
            first, last = part
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    length = last - first + 1
    if call.method == "HEAD":
        headers["Content-Length"] = str(length)
        return web.Response(status=status, headers=headers)
    parts.events.tell(Event("pull", repository, digest, OCTETS, length, caller=call.caller.name))
    return await send(parts, call, digest, status, headers, first, length)


async def send(
    parts: Parts, call: Call, digest: Digest, status: int, headers: dict[str, str], first: int, length: int
) -> web.StreamResponse:
    """`length` bytes of the blob from `first` on."""
    try:
        fd = os.open(parts.store.path(digest), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise blob_unknown(digest) from None
    with open(fd, "rb", buffering=0) as file:
        if length <= _INLINE:
            return web.Response(status=status, headers=headers, body=os.pread(fd, length, first))
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = length
        await response.prepare(call.request)
        transport = call.request.transport
        if transport is None:
            raise ConnectionResetError
        await parts.pouring.pour(transport, file, first, length)
        await response.write_eof()
        return response


def ranged(text: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a `Range` header; None: it is to be ignored (several ranges, another unit).

    Raises:
        Refusal: 416.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        first, last = int(match[1]), min(int(match[2]) if match[2] else size - 1, size - 1)
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first > last:
        headers = {"Content-Range": f"bytes */{size}"}
        raise Refusal(416, "SIZE_INVALID", f"the blob has {size} bytes, none of them in this range", headers=headers)
    return first, last


async def _delete(parts: Parts, call: Call, digest: Digest) -> web.Response:
    repository = call.route.repository
    if not parts.settings.delete:
        raise Refusal(405, "UNSUPPORTED", "this registry does not delete", headers={"Allow": "GET, HEAD"})
    if not await parts.ledger.commit(lambda db: tables.remove_blob(db, repository, digest, time.time_ns())):
        raise blob_unknown(digest)
    parts.events.tell(Event(DELETE, repository, digest, caller=call.caller.name))
    return answer(202, headers={"Docker-Content-Digest": digest})
