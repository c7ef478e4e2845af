"""Manifests: HEAD, GET, PUT, DELETE, by tag or digest.

The bytes are stored as they came and served with the type they were pushed with.
A PUT is refused when it is not what its digest says, is no manifest, or names a
blob that the repository has not, where the settings are strict (`sparse`); a missing
subject never matters.

Spec: distribution-spec v1.1, end-3, end-7, end-9, and "Pushing Manifests with Subject"; main branch for ?tag=.
"""

from __future__ import annotations

import hashlib
import time

from aiohttp import web

from knarr.content.store import Store
from knarr.errors import ContentError
from knarr.registry import tables
from knarr.registry.call import Call, answer
from knarr.registry.events import Event
from knarr.registry.parts import Parts
from knarr.registry.refusal import Refusal, digest_invalid, manifest_unknown, not_allowed
from knarr.registry.rights import DELETE, PULL, PUSH
from knarr.registry.routes import checked_digest, checked_tag
from knarr.registry.tables import Entry
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest, decode

_UNTOLD = ("", "application/json", "application/octet-stream", "text/plain")  # content types that say nothing


async def respond(parts: Parts, call: Call) -> web.StreamResponse:
    """Answer a request for one manifest."""
    checked_reference(call.route.reference)
    if call.method in ("GET", "HEAD"):
        return _read(parts, call)
    if call.method == "PUT":
        return await _put(parts, call)
    if call.method == "DELETE":
        return await _delete(parts, call)
    raise not_allowed(call.method, "GET", "HEAD", "PUT", "DELETE")


def checked_reference(text: str) -> str:
    """`text`, if it is a digest or can be a tag.

    Raises:
        Refusal
    """
    return checked_digest(text) if ":" in text else checked_tag(text)


def _read(parts: Parts, call: Call) -> web.Response:
    repository, reference = call.route.repository, call.route.reference
    entry = parts.ledger.read(lambda db: tables.manifest(db, repository, reference))
    if entry is None:
        raise manifest_unknown(reference)
    headers = {
        "Content-Type": entry.media_type,
        "Docker-Content-Digest": entry.digest,
        "ETag": f'"{entry.digest}"',
    }
    if call.request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    if call.method == "HEAD":
        headers["Content-Length"] = str(entry.size)
        return web.Response(headers=headers)
    try:
        raw = parts.store.path(entry.digest).read_bytes()
    except FileNotFoundError:
        raise manifest_unknown(reference) from None
    tag = "" if ":" in reference else reference
    parts.events.tell(Event(PULL, repository, entry.digest, entry.media_type, entry.size, tag, call.caller.name))
    return web.Response(headers=headers, body=raw)


async def _put(parts: Parts, call: Call) -> web.Response:
    repository, reference = call.route.repository, call.route.reference
    tags = [checked_tag(tag) for tag in call.all("tag")]
    limits = parts.settings.limits
    if len(tags) > limits.tags_per_put:
        raise Refusal(414, "MANIFEST_INVALID", f"at most {limits.tags_per_put} tags in one request")
    raw = await call.body(limits.manifest_bytes)
    wanted = Digest(reference) if ":" in reference else None
    digest = check(raw, wanted)
    if wanted is None:
        tags.insert(0, reference)
    entry, document = read(raw, digest, call.request.headers.get("Content-Type", ""))
    await parts.blocking(keep, parts.store, raw, digest)

    def enter(db: tables.Connection) -> None:
        parts.see(digest)
        add(db, repository, entry, document, tags=tags, sparse=parts.settings.sparse)

    await parts.ledger.commit(enter)
    for tag in tags or [""]:
        parts.events.tell(Event(PUSH, repository, digest, entry.media_type, entry.size, tag, call.caller.name))
    response = answer(
        201, headers={"Location": f"/v2/{repository}/manifests/{digest}", "Docker-Content-Digest": digest}
    )
    if entry.subject:
        response.headers["OCI-Subject"] = entry.subject
    for tag in tags if call.has("tag") else ():
        response.headers.add("OCI-Tag", tag)
    return response


def read(raw: bytes, digest: Digest, content_type: str) -> tuple[Entry, Manifest | Index]:
    """What the bytes of a manifest say.

    Raises:
        Refusal: MANIFEST_INVALID.
    """
    told = content_type.partition(";")[0].strip()
    try:
        document = decode(raw, "" if told in _UNTOLD else told)
        kind = document.artifact_type or (document.config.media_type if isinstance(document, Manifest) else "")
        kind.encode()  # JSON can spell what no text can hold
    except (ContentError, ValueError, TypeError, AttributeError) as error:
        raise Refusal(400, "MANIFEST_INVALID", f"the body is no manifest: {error}") from None
    if told not in _UNTOLD and told != document.media_type:
        raise Refusal(
            400, "MANIFEST_INVALID", f"Content-Type is {told[:200]}, the document's own type {document.media_type}"
        )
    subject = str(document.subject.digest) if document.subject else ""
    return Entry(digest, document.media_type, len(raw), subject, kind, document.annotations), document


def keep(store: Store, raw: bytes, digest: Digest) -> None:
    """Put the bytes into the store, and see them on the disk. Blocks."""
    if store.find(digest) is not None:
        store.settle(digest)
        return
    with store.ingest(algorithm=digest.algorithm) as blob:
        blob.write(raw)
        blob.commit(expected=Descriptor("", digest, len(raw)))


def add(
    db: tables.Connection,
    repository: str,
    entry: Entry,
    document: Manifest | Index,
    *,
    tags: list[str],
    sparse: str,
) -> None:
    """Enter a manifest whose bytes are in the store.

    Raises:
        Refusal: MANIFEST_BLOB_UNKNOWN.
    """
    is_index = isinstance(document, Index)
    needed = [str(item.digest) for item in document.successors if not _is_elsewhere(item)]
    is_lenient = sparse == "all" or (sparse == "indexes" and is_index)
    missing = [] if is_lenient else tables.absent(db, repository, needed, manifests=is_index)
    if missing:
        raise Refusal(
            404,
            "MANIFEST_BLOB_UNKNOWN",
            f"the manifest needs {len(missing)} blobs that the repository has not: push them first",
            detail=[{"digest": digest} for digest in missing[:20]],
        )
    children = [str(item.digest) for item in document.successors]
    tables.put_manifest(db, repository, entry, children=children, tags=tags, now_ns=time.time_ns())


def _is_elsewhere(item: Descriptor) -> bool:
    """Whether a registry need not have the layer: it says itself where it is."""
    kind = item.media_type
    return bool(item.urls) or kind.startswith((mediatype.OCI_LAYER_NONDIST, mediatype.DOCKER_LAYER_FOREIGN_GZIP))


def check(raw: bytes, wanted: Digest | None) -> Digest:
    """The digest of a manifest: `wanted`, if that is given.

    Raises:
        Refusal: DIGEST_INVALID.
    """
    algorithm = wanted.algorithm if wanted else "sha256"
    found = Digest(f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}")
    if wanted is not None and found != wanted:
        raise digest_invalid("the manifest has another digest", digest=str(wanted), received=str(found))
    return found


async def _delete(parts: Parts, call: Call) -> web.Response:
    repository, reference = call.route.repository, call.route.reference
    if not parts.settings.delete:
        raise Refusal(405, "UNSUPPORTED", "this registry does not delete", headers={"Allow": "GET, HEAD, PUT"})
    remove = tables.remove_manifest if ":" in reference else tables.remove_tag
    if not await parts.ledger.commit(lambda db: remove(db, repository, reference, time.time_ns())):
        raise manifest_unknown(reference)
    tag = "" if ":" in reference else reference
    parts.events.tell(Event(DELETE, repository, "" if tag else reference, tag=tag, caller=call.caller.name))
    return answer(202)
