"""Answers about repositories of upstreams: from the store where it can be, with what the upstream says where it must.

A tag is asked for again after a while; what has a digest never. When the upstream
refuses, fails or is silent, what is here is served with a `Warning`, since a build
that goes on with yesterday's base is better than one that stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aiohttp import web

from knarr.content.growth import Following, Growth, Restarted
from knarr.errors import KnarrError
from knarr.registry import blobs, listing, manifests, referrers, tables
from knarr.registry.call import OCTETS, Call
from knarr.registry.fetching import Fetcher, described, is_missing
from knarr.registry.parts import Parts
from knarr.registry.refusal import Refusal, blob_unknown, manifest_unknown, name_unknown
from knarr.registry.routes import Kind, checked_digest
from knarr.registry.upstreams import Foreign
from knarr.spec.descriptor import Descriptor
from knarr.streams import CHUNK

T = TypeVar("T")
_WAITING = 64  # requests that wait for upstreams at once


class Proxy:
    """The cache's side of one server."""

    def __init__(self, parts: Parts, fetcher: Fetcher) -> None:
        self._parts = parts
        self._fetcher = fetcher
        self._threads = ThreadPoolExecutor(_WAITING, thread_name_prefix="upstream")

    async def respond(self, call: Call, origin: Foreign) -> web.StreamResponse:
        """Answer a request about a repository of an upstream.

        Raises:
            Refusal: it would write; it asks for what neither side has; the upstream cannot be asked.
        """
        kind = call.route.kind
        if kind in (Kind.UPLOADS, Kind.UPLOAD) or call.method == "PUT":
            raise Refusal(403, "DENIED", f"this repository is a cache of {origin.upstream.host}: push there")
        if call.method == "DELETE":
            return await self._local(call)
        if kind is Kind.MANIFEST:
            return await self._manifest(call, origin)
        if kind is Kind.BLOB:
            return await self._blob(call, origin)
        if kind is Kind.REFERRERS:
            subject = checked_digest(call.route.reference)
            warning = await self._try(self._fetcher.referrers, origin, call.route.repository, subject)
            return _warned(referrers.respond(self._parts, call), warning)
        return await self._tags(call, origin)

    def close(self) -> None:
        """Give up what is being fetched."""
        self._fetcher.close()
        self._threads.shutdown()

    async def _local(self, call: Call) -> web.StreamResponse:
        if call.route.kind is Kind.BLOB:
            return await blobs.respond(self._parts, call)
        return await manifests.respond(self._parts, call)

    async def _manifest(self, call: Call, origin: Foreign) -> web.StreamResponse:
        repository, reference = call.route.repository, call.route.reference
        manifests.checked_reference(reference)
        here = self._parts.ledger.read(lambda db: tables.manifest(db, repository, reference))
        if ":" in reference:
            is_current = here is not None
        else:
            is_current = here is not None and self._fetcher.is_fresh(repository, reference, origin.upstream.fresh_s)
        warning = ""
        if not is_current:
            try:
                await self._wait(self._fetcher.manifest, origin, repository, reference)
            except KnarrError as error:
                if is_missing(error):
                    raise manifest_unknown(reference) from error
                if here is None:
                    raise _unreachable(origin, error) from error
                warning = described(error)
        return _warned(await manifests.respond(self._parts, call), warning)

    async def _blob(self, call: Call, origin: Foreign) -> web.StreamResponse:
        repository = call.route.repository
        digest = checked_digest(call.route.reference)
        if self._parts.ledger.read(lambda db: tables.blob_size(db, repository, digest)) is not None:
            return await blobs.respond(self._parts, call)
        descriptor = self._fetcher.expected(repository, digest)
        if descriptor is None:
            raise blob_unknown(digest)
        if self._parts.store.has(descriptor):
            await self._wait(self._fetcher.enter, repository, descriptor)
            return await blobs.respond(self._parts, call)
        headers = {"Content-Type": OCTETS, "Docker-Content-Digest": digest, "Content-Length": str(descriptor.size)}
        if call.method == "HEAD":
            return web.Response(headers=headers)
        growth = self._fetcher.blob(origin, repository, descriptor)
        try:
            following = await self._wait(growth.follow)
            if following is None or "Range" in call.request.headers:
                await self._wait(_finish, following)
                return await blobs.respond(self._parts, call)
        except KnarrError as error:
            raise (blob_unknown(digest) if is_missing(error) else _unreachable(origin, error)) from error
        return await self._pour(call, growth, following, descriptor, headers)

    async def _pour(
        self, call: Call, growth: Growth, following: Following, descriptor: Descriptor, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Pass the blob on while it comes in.

        Its last piece is held back until the blob was verified: an answer that was not is cut, and cannot look whole.
        """
        response = web.StreamResponse(headers=headers)
        response.content_length = descriptor.size
        await response.prepare(call.request)
        sent = 0
        while True:
            held, at = b"", 0
            try:
                while data := await self._wait(following.read, CHUNK):
                    sent += await _unsent(response, held, at, sent)
                    at, held = at + len(held), data
                await _unsent(response, held, at, sent)
                await response.write_eof()
                return response
            except Restarted:
                again = await self._wait(growth.follow)
                if again is None:
                    return await self._rest(response, descriptor, sent)
            except KnarrError as error:
                raise ConnectionResetError from error
            finally:
                following.abandon()
            following = again

    async def _rest(self, response: web.StreamResponse, descriptor: Descriptor, sent: int) -> web.StreamResponse:
        with self._parts.store.open(descriptor) as file:
            at = 0
            while data := await self._wait(file.read, CHUNK):
                sent += await _unsent(response, data, at, sent)
                at += len(data)
        await response.write_eof()
        return response

    async def _tags(self, call: Call, origin: Foreign) -> web.StreamResponse:
        try:
            found = await self._wait(self._fetcher.tags, origin)
        except KnarrError as error:
            if is_missing(error):
                raise name_unknown(call.route.repository) from error
            try:
                return _warned(listing.tags(self._parts, call), described(error))
            except Refusal:
                raise _unreachable(origin, error) from error
        return listing.some_tags(self._parts, call, found)

    async def _try(self, call: Callable[..., object], *words: object) -> str:
        """Make a call that may fail; returns why it has, or ""."""
        try:
            await self._wait(call, *words)
        except KnarrError as error:
            return "" if is_missing(error) else described(error)
        return ""

    async def _wait(self, call: Callable[..., T], *words: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *words)


async def _unsent(response: web.StreamResponse, data: bytes, at: int, sent: int) -> int:
    """Send what lies behind byte `sent` of a piece that begins at byte `at`; returns how much that was."""
    rest = data[max(0, sent - at) :]
    if rest:
        await response.write(rest)
    return len(rest)


def _finish(following: Following | None) -> None:
    if following is not None:
        with following:
            while following.read(CHUNK):
                pass


def _warned(response: web.StreamResponse, warning: str) -> web.StreamResponse:
    if warning and not response.prepared:
        response.headers["Warning"] = f'299 - "served from the cache, since the upstream failed: {warning}"'
    return response


def _unreachable(origin: Foreign, error: KnarrError) -> Refusal:
    return Refusal(502, "UNAVAILABLE", f"{origin.upstream.host} cannot be asked: {error.message}")
