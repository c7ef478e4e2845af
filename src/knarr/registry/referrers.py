"""Referrers: which manifests have a given one as their subject.

An answer holds as many descriptors as fit into what clients read; the rest is one
`Link` away.

Spec: distribution-spec v1.1, "Listing Referrers"; end-12.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from knarr.registry import tables
from knarr.registry.call import Call, answer
from knarr.registry.parts import Parts
from knarr.registry.refusal import not_allowed
from knarr.registry.routes import checked_digest
from knarr.registry.tables import Entry
from knarr.spec import mediatype


def respond(parts: Parts, call: Call) -> web.Response:
    """Answer a request for the referrers of one digest; there may be none."""
    if call.method not in ("GET", "HEAD"):
        raise not_allowed(call.method, "GET", "HEAD")
    repository = call.route.repository
    subject = checked_digest(call.route.reference)
    kind = call.first("artifactType")
    room = parts.settings.limits.referrers_bytes

    def page(db: tables.Connection) -> tuple[list[str], str]:
        return _page(tables.referrers(db, repository, subject, call.first("last")), kind, room)

    items, last = parts.ledger.read(page)
    headers = {"OCI-Filters-Applied": "artifactType"} if kind else {}
    if last:
        query = urlencode([*([("artifactType", kind)] if kind else []), ("last", last)])
        headers["Link"] = f'</v2/{repository}/referrers/{subject}?{query}>; rel="next"'
    body = f'{{"schemaVersion":2,"mediaType":"{mediatype.OCI_INDEX}","manifests":[{",".join(items)}]}}'
    return answer(200, body=body.encode(), kind=mediatype.OCI_INDEX, headers=headers)


def _page(entries: Any, kind: str, room: int) -> tuple[list[str], str]:
    """The descriptors that fit into `room` bytes (one at least), and the digest behind which more follow, or ""."""
    items: list[str] = []
    last = ""
    for entry in entries:
        if kind and entry.artifact_type != kind:
            continue
        text = json.dumps(_descriptor(entry))
        room -= len(text) + 1
        if room < 0 and items:
            return items, last
        items.append(text)
        last = str(entry.digest)
    return items, ""


def _descriptor(entry: Entry) -> dict[str, Any]:
    described: dict[str, Any] = {"mediaType": entry.media_type, "digest": entry.digest, "size": entry.size}
    if entry.artifact_type:
        described["artifactType"] = entry.artifact_type
    if entry.annotations:
        described["annotations"] = dict(entry.annotations)
    return described
