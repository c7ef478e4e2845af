"""Uploads as the wire has them: begin, mount, add, ask, finish, cancel.

    POST …/blobs/uploads/                  202, Location
    POST …?digest=D                        201, the body is the blob
    POST …?mount=D[&from=REPOSITORY]       201, or 202 and an ordinary upload
    PATCH LOCATION                         202, Range: how far it came
    GET LOCATION                           204, Range
    PUT LOCATION?digest=D                  201
    DELETE LOCATION                        204

Spec: distribution-spec v1.1, "Pushing blobs"; end-4 to end-6, end-11, end-13, end-14.
"""

from __future__ import annotations

import asyncio
import re
import time

from aiohttp import web

from knarr.content import sharing
from knarr.registry import tables
from knarr.registry.call import OCTETS, Call, answer
from knarr.registry.events import Event
from knarr.registry.parts import Parts
from knarr.registry.refusal import Refusal, digest_invalid, not_allowed
from knarr.registry.rights import PUSH
from knarr.registry.routes import checked_digest, checked_name
from knarr.registry.uploads import Upload
from knarr.spec.digest import Digest
from knarr.streams import CHUNK

_ALGORITHMS = ("sha256", "sha384", "sha512")
_PLACE = re.compile(
    r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/.*)?"
)  # the specification's has no unit; some clients write one


async def start(parts: Parts, call: Call) -> web.Response:
    """Answer a request to …/blobs/uploads/."""
    if call.method != "POST":
        raise not_allowed(call.method, "POST")
    repository = call.route.repository
    if call.has("mount"):
        mounted = await _mount(parts, call, repository)
        if mounted is not None:
            return mounted
    algorithm = call.first("digest-algorithm") or "sha256"
    if algorithm not in _ALGORITHMS:
        raise digest_invalid(f"this registry knows {', '.join(_ALGORITHMS)}", algorithm=algorithm[:100])
    expected = checked_digest(call.first("digest")) if call.has("digest") else None
    name = parts.uploads.begin(repository, expected.algorithm if expected else algorithm)
    if expected is None:
        begun = _standing(202, repository, name, 0)
        begun.headers[sharing.ANNOUNCED] = parts.sharing.identity
        return begun
    upload = parts.uploads.find(repository, name)
    try:
        return await _finish(parts, call, upload, expected)
    except BaseException:
        parts.uploads.cancel(upload)  # nobody was told its name
        raise


async def go_on(parts: Parts, call: Call) -> web.Response:
    """Answer a request to an upload."""
    repository, name = call.route.repository, call.route.reference
    upload = parts.uploads.find(repository, name)
    if call.method in ("GET", "HEAD"):
        # Who asks has lost the connection that was adding to it: what that one holds is written down first.
        async with parts.turns.take(name, call.request.transport):
            return _standing(204, repository, name, parts.uploads.offset(upload))
    if call.method == "DELETE":
        parts.uploads.cancel(upload)
        return answer(204)
    if call.method not in ("PATCH", "PUT"):
        raise not_allowed(call.method, "GET", "PATCH", "PUT", "DELETE")
    expected = checked_digest(call.first("digest")) if call.method == "PUT" else None
    async with parts.turns.take(name, call.request.transport):
        _check_place(parts, call, upload)
        if expected is not None:
            if sharing.PROOF in call.request.headers:
                return await _take(parts, call, upload, expected)
            return await _finish(parts, call, upload, expected)
        await _receive(parts, call, upload)
        return _standing(202, repository, name, upload.size)


async def _mount(parts: Parts, call: Call, repository: str) -> web.Response | None:
    """Let the repository have a blob of another one that the caller may read; None: there is none."""
    digest = checked_digest(call.first("mount"))
    source = call.first("from")
    if source:
        wanted = [checked_name(source)]
    else:
        wanted = [name for name, _ in parts.ledger.read(lambda db: tables.blob_holders(db, digest))]
    readable = [name for name in wanted if call.caller.reads(name)]
    if not readable or parts.store.find(digest) is None:
        return None
    now = time.time_ns()
    size = await parts.ledger.commit(lambda db: tables.mount_blob(db, repository, digest, readable, now))
    if size is None:
        return None
    parts.events.tell(Event("mount", repository, digest, OCTETS, size, caller=call.caller.name))
    return _made(repository, digest)


def _check_place(parts: Parts, call: Call, upload: Upload) -> None:
    """A chunk must begin where the last one ended.

    Raises:
        Refusal: 416, with how far the upload is; 400 for a header that cannot be read or a length that lies.
    """
    text = call.request.headers.get("Content-Range", "")
    if not text:
        return
    match = _PLACE.fullmatch(text.strip())
    if match is None:
        raise Refusal(400, "BLOB_UPLOAD_INVALID", "Content-Range has the form FIRST-LAST", detail={"found": text[:100]})
    first, last = int(match[1]), int(match[2])
    offset = parts.uploads.offset(upload)
    if first != offset or last < first:
        standing = _standing(416, call.route.repository, call.route.reference, offset)
        raise Refusal(
            416, "BLOB_UPLOAD_INVALID", f"the upload goes on at byte {offset}", headers=dict(standing.headers)
        )
    length = call.request.content_length
    if length is not None and length != last - first + 1:
        raise Refusal(
            400, "SIZE_INVALID", f"Content-Range tells of {last - first + 1} bytes, Content-Length of {length}"
        )


async def _receive(parts: Parts, call: Call, upload: Upload) -> None:
    """Add the body to the upload. What came before a failure stays: the client may go on behind it."""
    pieces: list[bytes] = []
    gathered = 0
    writing: asyncio.Future[None] | None = None
    await parts.blocking(upload.open)
    try:
        try:
            async for piece in call.pieces():
                pieces.append(piece)
                gathered += len(piece)
                if gathered >= CHUNK:  # hash and write on a thread, while the next ones come in
                    if writing is not None:
                        await writing
                    writing = asyncio.ensure_future(parts.blocking(upload.write, pieces))
                    pieces, gathered = [], 0
        finally:
            if writing is not None:
                await writing
            if pieces:
                await parts.blocking(upload.write, pieces)
    finally:
        upload.close()


async def _take(parts: Parts, call: Call, upload: Upload, expected: Digest) -> web.Response:
    """End an upload without a byte: the client has the same store, and says that the blob is there.

    Raises:
        Refusal: it is not, or the client cannot prove that it may say so; the upload goes on.
    """
    repository, name = call.route.repository, call.route.reference
    proof = call.request.headers[sharing.PROOF]
    size = parts.store.find(expected) if parts.sharing.is_proven(proof, name, expected) else None
    if size is None or parts.uploads.offset(upload):
        raise digest_invalid("the store of this registry does not lend this blob: send it", digest=str(expected))
    await parts.blocking(parts.store.settle, expected)
    parts.uploads.cancel(upload)
    return await _enter(parts, call, repository, expected, size)


async def _finish(parts: Parts, call: Call, upload: Upload, expected: Digest) -> web.Response:
    repository = call.route.repository
    length = call.request.content_length
    if length is not None and length <= CHUNK:  # small: one thread is woken, once
        body = await call.body(CHUNK)
        size = await parts.blocking(_write_whole, parts, upload, body, expected)
    else:
        await _receive(parts, call, upload)
        size = await parts.blocking(parts.uploads.finish, upload, expected)
    return await _enter(parts, call, repository, expected, size)


async def _enter(parts: Parts, call: Call, repository: str, digest: Digest, size: int) -> web.Response:
    now = time.time_ns()

    def enter(db: tables.Connection) -> None:
        parts.see(digest)
        tables.add_blob(db, repository, digest, size, now)

    await parts.ledger.commit(enter)
    parts.events.tell(Event(PUSH, repository, digest, OCTETS, size, caller=call.caller.name))
    return _made(repository, digest)


def _write_whole(parts: Parts, upload: Upload, body: bytes, expected: Digest) -> int:
    upload.open()
    try:
        if body:
            upload.write([body])
    finally:
        upload.close()
    return parts.uploads.finish(upload, expected)


def _standing(status: int, repository: str, name: str, offset: int) -> web.Response:
    headers = {
        "Location": f"/v2/{repository}/blobs/uploads/{name}",
        "Range": f"0-{max(0, offset - 1)}",
        "Docker-Upload-UUID": name,
    }
    return answer(status, headers=headers)


def _made(repository: str, digest: Digest) -> web.Response:
    headers = {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest}
    return answer(201, headers=headers)
