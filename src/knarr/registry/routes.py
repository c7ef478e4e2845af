"""What a path asks for. Pure: text in, `Route` out, and the grammar of names is checked on the way.

A repository may have components such as `blobs` or `tags`; so a path is read from
its end. Whatever does not fit the grammar of names (dots, escapes, empty parts)
is refused before anything looks at a disk.

Spec: distribution-spec v1.1, "Endpoints" and "Pulling manifests" (grammar of names and tags).
"""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import parse_qsl, unquote

from knarr.errors import ContentError
from knarr.record import record
from knarr.registry.refusal import Refusal, digest_invalid
from knarr.spec.digest import Digest

MAX_NAME = 255
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class Kind(Enum):
    """The endpoints."""

    BASE = "base"
    CATALOG = "catalog"
    EXTENSIONS = "extensions"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    TAGS = "tags"
    REFERRERS = "referrers"
    TOKEN = "token"
    METRICS = "metrics"


@record
class Route:
    """An endpoint, the repository it is about, and the tag, digest or upload that its path ends with."""

    kind: Kind
    repository: str = ""
    reference: str = ""


Query = list[tuple[str, str]]

_FIXED = {
    "/v2": Route(Kind.BASE),
    "/v2/": Route(Kind.BASE),
    "/v2/_catalog": Route(Kind.CATALOG),
    "/v2/_oci/ext/discover": Route(Kind.EXTENSIONS),
    "/token": Route(Kind.TOKEN),
    "/metrics": Route(Kind.METRICS),
}


def split(target: str) -> tuple[str, Query]:
    """Path (unescaped) and query of a request's target, which may be a whole URL."""
    if not target.startswith("/"):
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    if "%" in path:
        path = unquote(path)
    return path, parse_qsl(query, keep_blank_values=True) if query else []


def parse(path: str) -> Route:
    """The route of an unescaped path.

    Raises:
        Refusal: it leads nowhere (404), or a name in it is outside the grammar (400).
    """
    known = _FIXED.get(path)
    if known is not None:
        return known
    if not path.startswith("/v2/"):
        raise Refusal(404, "UNSUPPORTED", "there is nothing here: the registry's API begins at /v2/")
    head, _, last = path[4:].rpartition("/")
    before, _, kind = head.rpartition("/")
    if kind == "uploads" and before.endswith("/blobs"):
        name = checked_name(before.removesuffix("/blobs"))
        return Route(Kind.UPLOAD, name, last) if last else Route(Kind.UPLOADS, name)
    if kind == "blobs":
        if last == "uploads":
            return Route(Kind.UPLOADS, checked_name(before))
        return Route(Kind.BLOB, checked_name(before), last)
    if kind == "manifests":
        return Route(Kind.MANIFEST, checked_name(before), last)
    if kind == "referrers":
        return Route(Kind.REFERRERS, checked_name(before), last)
    if kind == "tags" and last == "list":
        return Route(Kind.TAGS, checked_name(before))
    raise Refusal(404, "UNSUPPORTED", "the registry has no such endpoint")


def checked_name(text: str) -> str:
    """`text`, if it can name a repository.

    Raises:
        Refusal: NAME_INVALID.
    """
    if not is_name(text):
        raise Refusal(
            400,
            "NAME_INVALID",
            f"a repository is named by lower-case letters, digits and . _ - / between them, {MAX_NAME} at most",
            detail={"name": text[:MAX_NAME]},
        )
    return text


def is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def checked_tag(text: str) -> str:
    """`text`, if it can be a tag.

    Raises:
        Refusal: it cannot. The specification has no code of its own for it.
    """
    if not is_tag(text):
        raise Refusal(
            400,
            "MANIFEST_INVALID",
            "a tag is made of at most 128 letters, digits and _ . - and begins with none of the last two",
            detail={"tag": text[:200]},
        )
    return text


def checked_digest(text: str) -> Digest:
    """`text` as a digest.

    Raises:
        Refusal: DIGEST_INVALID.
    """
    try:
        return Digest.parse(text)
    except ContentError as error:
        raise digest_invalid(error.message, digest=text[:200]) from None
