"""Which digest a name has: one HEAD, and a GET only where the registry does not tell by HEAD.

The one thing a warm build asks a registry, so little is imported here.
Spec: distribution-spec v1.1, "Checking if content exists in the registry".
"""

from __future__ import annotations

from knarr.errors import ContentError, DigestMismatch, NotFound
from knarr.record import record, replace
from knarr.remote.access import Access
from knarr.remote.hosts import RESOLVE, Endpoint
from knarr.remote.wire import Answer
from knarr.spec.digest import Digest
from knarr.spec.mediatype import INDEXES, MANIFESTS

MAX_MANIFEST_BYTES = 4 << 20  # spec.manifest has the same; not imported for its weight
ACCEPT = (("Accept", ", ".join((*MANIFESTS, *INDEXES))),)
_TYPES = frozenset((*MANIFESTS, *INDEXES))


@record
class Head:
    """What a registry says about a manifest; its bytes are checked against it when they are fetched."""

    media_type: str
    digest: Digest
    size: int  # bytes


def resolve(access: Access, name: str) -> Head:
    """The manifest that `name` (a tag or a digest) leads to.

    Raises:
        NotFound: the registry has no such name.
        RegistryError, Cancelled
    """
    return access.first(RESOLVE, lambda endpoint, attempts: _at(access, endpoint, name, attempts))


def path(access: Access, name: str) -> str:
    return f"/{access.repository}/manifests/{name}"


def called(access: Access, name: str) -> str:
    """`host/repository:tag` or `host/repository@digest`, for messages."""
    return f"{access.name}{'@' if ':' in name else ':'}{name}"


def _at(access: Access, endpoint: Endpoint, name: str, attempts: int) -> Head:
    what = called(access, name)
    target = path(access, name)
    with access.send(endpoint, "HEAD", target, what, 200, 404, 405, headers=ACCEPT, attempts=attempts) as answer:
        if answer.status == 404:
            raise NotFound(f"{what}: not found", hint=f"asked {endpoint.origin.netloc}")
        known = _head(answer, answer.length) if answer.status == 200 else None
    if known is None:
        known = _by_reading(access, endpoint, name, attempts)
    wanted = Digest.parse(name) if ":" in name else None
    # Another algorithm names the same bytes differently; only the fetch can tell then.
    if wanted is not None and wanted.algorithm == known.digest.algorithm and wanted != known.digest:
        raise DigestMismatch(f"{what}: {endpoint.origin.netloc} answers with {known.digest}")
    return known if wanted is None else replace(known, digest=wanted)


def _head(answer: Answer, size: int) -> Head | None:
    """What the headers tell, if they tell all of it."""
    media_type = answer.headers.get("content-type").partition(";")[0].strip().lower()
    try:
        digest = Digest.parse(answer.headers.get("docker-content-digest"))
    except ContentError:
        return None
    return Head(media_type, digest, size) if media_type in _TYPES and size >= 0 else None


def _by_reading(access: Access, endpoint: Endpoint, name: str, attempts: int) -> Head:
    from knarr.spec import manifest

    what = called(access, name)
    answer, raw = access.fetch(
        endpoint, path(access, name), what, 200, 404, limit=MAX_MANIFEST_BYTES, headers=ACCEPT, attempts=attempts
    )
    if answer.status == 404:
        raise NotFound(f"{what}: not found", hint=f"asked {endpoint.origin.netloc}")
    media_type = answer.headers.get("content-type").partition(";")[0].strip().lower()
    found = manifest.decode(raw, media_type).descriptor
    told = answer.headers.get("docker-content-digest")
    if told.startswith("sha256:") and told != found.digest:
        raise DigestMismatch(f"{what}: {endpoint.origin.netloc} says {told}, sent {found.digest}")
    return Head(found.media_type, found.digest, found.size)
