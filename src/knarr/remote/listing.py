"""Lists that a registry gives page by page: tags of a repository, repositories of a registry.

Spec: distribution-spec v1.1, "Listing Tags"; `_catalog` as distribution has it.
"""

from __future__ import annotations

from collections.abc import Iterator

from knarr.errors import NotFound, RegistryError
from knarr.remote import auth, url
from knarr.remote.access import Access
from knarr.remote.hosts import PULL, Endpoint
from knarr.remote.wire import Answer

_MAX_PAGE_BYTES = 8 << 20  # 1000 tags of at most 128 characters fit many times
_GONE = (404, 405)


def tags(access: Access) -> Iterator[str]:
    """Every tag of the repository.

    Raises:
        NotFound: no such repository.
        RegistryError: it is no list.
    """
    what = f"tags of {access.name}"
    return names(access, f"/{access.repository}/tags/list", what, "tags", auth.pull(access.repository))


def names(access: Access, path: str, what: str, member: str, scopes: auth.Scopes) -> Iterator[str]:
    """The texts under `member` of every page from `path` on, in the registry's order.

    Raises:
        NotFound: there is no such list.
        RegistryError: it is none.
    """
    import json

    target: str | url.Url | None = f"{path}?n={access.transport.settings.tags_page}"
    while target is not None:
        endpoint, answer, raw = _page(access, target, what, scopes)
        if answer.status in _GONE:
            raise NotFound(f"{what}: the repository does not exist" if access.repository else f"{what}: it has none")
        try:
            found = json.loads(raw).get(member) or ()
        except (ValueError, AttributeError) as error:
            raise RegistryError(f"{what}: {endpoint.origin.netloc} did not send a list") from error
        yield from (str(name) for name in found)
        # A page without names has no end to come to.
        target = next_page(access, endpoint, target, answer) if found else None


def _page(access: Access, target: str | url.Url, what: str, scopes: auth.Scopes) -> tuple[Endpoint, Answer, bytes]:
    def ask(endpoint: Endpoint, attempts: int) -> tuple[Endpoint, Answer, bytes]:
        answer, raw = access.fetch(
            endpoint, target, what, 200, *_GONE, limit=_MAX_PAGE_BYTES, attempts=attempts, scopes=scopes
        )
        return endpoint, answer, raw

    return access.first(PULL, ask)


def next_page(access: Access, endpoint: Endpoint, asked: str | url.Url, answer: Answer) -> url.Url | None:
    """Where `Link: <…>; rel="next"` leads. Spec: RFC 8288."""
    for text in answer.headers.all("link"):
        address, _, attributes = text.partition(">")
        if 'rel="next"' in attributes or "rel=next" in attributes:
            base = access.transport.locate(endpoint, asked)
            return access.transport.joined(endpoint, base, address.strip().removeprefix("<"))
    return None
