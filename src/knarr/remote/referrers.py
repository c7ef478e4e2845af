"""Who refers to a manifest: the referrers API, and the fallback tag of registries without it.

The fallback tag is an index that clients keep themselves, so two who add at once
may lose one entry: after writing we read it back and add again what vanished.
Spec: distribution-spec v1.1, "Listing Referrers", "Referrers Tag Schema".
"""

from __future__ import annotations

from knarr.errors import ContentError, RegistryError
from knarr.remote import auth, listing, resolve, url
from knarr.remote.access import Access
from knarr.remote.hosts import REFERRERS, Endpoint
from knarr.remote.wire import Answer
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import MAX_MANIFEST_BYTES, Index, decode, encode_index

_MAX_LISTED = 10_000  # referrers of one manifest: beyond, a registry is broken or hostile
_RACES = 5  # writers of one fallback tag at the same moment that we bear
# 404 is the spec's way to say "no such API"; the others are met behind proxies and older registries.
_NO_API = (404, 400, 405, 501)


def listed(access: Access, subject: Descriptor, artifact_type: str) -> tuple[Descriptor, ...]:
    """Manifests whose subject is `subject`, of one artifact type or of any."""
    what = f"referrers of {subject.digest} in {access.name}"
    found: list[Descriptor] = []
    target: str | url.Url | None = f"/{access.repository}/referrers/{subject.digest}"
    if access.lacks_referrers:
        found = list(_read_tag(access, subject.digest, writing=False))
        target = None
    elif artifact_type:
        from urllib.parse import quote

        target = url.with_query(str(target), f"artifactType={quote(artifact_type, safe='')}")
    while target is not None:
        asked = target

        def ask(endpoint: Endpoint, attempts: int, asked: str | url.Url = asked) -> tuple[Endpoint, Answer, bytes]:
            answer, raw = access.fetch(
                endpoint, asked, what, 200, *_NO_API, limit=MAX_MANIFEST_BYTES, attempts=attempts
            )
            return endpoint, answer, raw

        endpoint, answer, raw = access.first(REFERRERS, ask)
        page = _as_index(raw, answer) if answer.status == 200 else None
        if page is None:
            # A registry with the API says in JSON what it misses; one without has no such route, for no digest.
            access.lacks_referrers = answer.status != 200 and not raw.lstrip().startswith(b"{")
            found = list(_read_tag(access, subject.digest, writing=False))
            break
        found += page.manifests
        if len(found) > _MAX_LISTED:
            raise RegistryError(f"{what}: more than {_MAX_LISTED} were listed")
        target = listing.next_page(access, endpoint, asked, answer)
    return tuple(d for d in found if not artifact_type or d.artifact_type == artifact_type)


def add(access: Access, raw: bytes, descriptor: Descriptor) -> None:
    """List a pushed manifest in the fallback tag of its subject, if it has one.

    Raises:
        ContentError: the tag holds something that is no index: not ours to overwrite.
        RegistryError
    """
    from knarr.spec.referrers import entry, fallback_tag

    document = decode(raw, descriptor.media_type)
    if document.subject is None:
        return
    ours = entry(document)
    for _ in range(_RACES):
        present = _read_tag(access, document.subject.digest, writing=True)
        if any(d.digest == ours.digest for d in present):
            return
        _write_tag(access, document.subject.digest, (*present, ours))
    raise RegistryError(f"{access.name}: others keep changing tag {fallback_tag(document.subject.digest)}")


def remove(access: Access, subject: Digest, gone: Digest) -> None:
    """Take a deleted manifest out of the fallback tag of its subject."""
    present = _read_tag(access, subject, writing=True)
    left = tuple(d for d in present if d.digest != gone)
    if len(left) < len(present):
        _write_tag(access, subject, left)


def subject_of(access: Access, name: str) -> Digest | None:
    """The subject of the manifest called `name`, or None: none, or no such manifest."""
    target = resolve.path(access, name)
    answer, raw = access.fetch(
        access.writer(),
        target,
        resolve.called(access, name),
        200,
        404,
        limit=MAX_MANIFEST_BYTES,
        headers=resolve.ACCEPT,
    )
    if answer.status != 200 or b'"subject"' not in raw:
        return None
    subject = decode(raw).subject
    return subject.digest if subject else None


def _read_tag(access: Access, subject: Digest, *, writing: bool) -> tuple[Descriptor, ...]:
    """What the fallback tag lists; when `writing`, at the place that takes pushes."""
    from knarr.spec.referrers import fallback_tag  # an ordinary push never comes here

    name = fallback_tag(subject)
    what = resolve.called(access, name)

    def ask(endpoint: Endpoint, attempts: int) -> tuple[Answer, bytes]:
        return access.fetch(
            endpoint,
            resolve.path(access, name),
            what,
            200,
            404,
            limit=MAX_MANIFEST_BYTES,
            headers=resolve.ACCEPT,
            attempts=attempts,
        )

    answer, raw = ask(access.writer(), 0) if writing else access.first(REFERRERS, ask)
    if answer.status == 404 or Digest.of(raw) == subject:  # cosign's copies have tags of such names for what they copy
        return ()
    page = _as_index(raw, answer)
    if page is None:
        raise ContentError(
            f"{what} is not an index", hint="the referrers tag schema needs this tag; remove it or give it another name"
        )
    return page.manifests


def _write_tag(access: Access, subject: Digest, entries: tuple[Descriptor, ...]) -> None:
    from knarr.spec.referrers import fallback_tag

    index = encode_index(entries)
    name = fallback_tag(subject)
    what = f"push of {resolve.called(access, name)}"
    rights = auth.push(access.repository)
    kind = (("Content-Type", index.media_type),)
    target = resolve.path(access, name)
    access.send(access.writer(), "PUT", target, what, 201, scopes=rights, headers=kind, body=index.raw).close()


def _as_index(raw: bytes, answer: Answer) -> Index | None:
    """The body as an index, or None: another document, or a page of a server that answers 200 to anything."""
    media_type = answer.headers.get("content-type").partition(";")[0].strip().lower()
    if not mediatype.is_index(media_type):
        return None
    try:
        document = decode(raw, media_type)
    except ContentError:
        return None
    return document if isinstance(document, Index) else None
