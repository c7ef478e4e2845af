"""Lists of names, page by page: the tags of a repository, the repositories of the registry.

Spec: distribution-spec v1.1, "Listing Tags" (end-8); Docker Registry HTTP API V2, "Catalog".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from urllib.parse import urlencode

from aiohttp import web

from knarr.registry import tables
from knarr.registry.call import JSON, Call, answer
from knarr.registry.parts import Parts
from knarr.registry.refusal import Refusal, name_unknown, not_allowed


def tags(parts: Parts, call: Call) -> web.Response:
    """Answer a request for the tags of a repository."""
    repository = call.route.repository
    limit = _limit(parts, call)
    known, found = parts.ledger.read(
        lambda db: (tables.is_known(db, repository), tables.tags(db, repository, call.first("last"), limit + 1))
    )
    if not known:
        raise name_unknown(repository)
    return _page(f"/v2/{repository}/tags/list", {"name": repository}, "tags", found, limit)


def some_tags(parts: Parts, call: Call, found: Sequence[str]) -> web.Response:
    """Answer with the tags that an upstream has told, sorted."""
    limit = _limit(parts, call)
    last = call.first("last")
    page = [tag for tag in found if tag > last][: limit + 1]
    return _page(f"/v2/{call.route.repository}/tags/list", {"name": call.route.repository}, "tags", page, limit)


def catalog(parts: Parts, call: Call) -> web.Response:
    """Answer a request for the repositories that the caller may read."""
    limit = _limit(parts, call)

    def page(db: tables.Connection) -> list[str]:
        readable = (name for name in tables.repositories(db, call.first("last")) if call.caller.reads(name))
        return list(islice(readable, limit + 1))

    return _page("/v2/_catalog", {}, "repositories", parts.ledger.read(page), limit)


def _limit(parts: Parts, call: Call) -> int:
    if call.method not in ("GET", "HEAD"):
        raise not_allowed(call.method, "GET", "HEAD")
    text = call.first("n")
    most = parts.settings.limits.page
    if not call.has("n"):
        return most
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal(400, "PAGINATION_NUMBER_INVALID", "n must be a number, 0 or more", detail={"n": text[:100]})
    return min(int(text), most)


def _page(path: str, about: dict[str, str], member: str, found: Sequence[str], limit: int) -> web.Response:
    headers = {}
    if limit and len(found) > limit:
        query = urlencode([("n", limit), ("last", found[limit - 1])])
        headers["Link"] = f'<{path}?{query}>; rel="next"'
    body = json.dumps({**about, member: list(found[:limit])}).encode()
    return answer(200, body=body, kind=JSON, headers=headers)
