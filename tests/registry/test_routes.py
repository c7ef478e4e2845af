"""Paths and names: what is understood, and what is refused before anything looks at a disk."""

from __future__ import annotations

import pytest

from knarr.registry.refusal import Refusal
from knarr.registry.routes import Kind, Route, checked_tag, parse, split

HEX = "a" * 64


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/", Route(Kind.BASE)),
        ("/v2/_catalog", Route(Kind.CATALOG)),
        ("/v2/a/manifests/latest", Route(Kind.MANIFEST, "a", "latest")),
        ("/v2/a/b-c/d__e/blobs/sha256:" + HEX, Route(Kind.BLOB, "a/b-c/d__e", "sha256:" + HEX)),
        ("/v2/a/blobs/uploads/", Route(Kind.UPLOADS, "a")),
        ("/v2/a/blobs/uploads", Route(Kind.UPLOADS, "a")),
        ("/v2/a/blobs/uploads/xyz", Route(Kind.UPLOAD, "a", "xyz")),
        ("/v2/a/tags/list", Route(Kind.TAGS, "a")),
        ("/v2/a/referrers/sha256:" + HEX, Route(Kind.REFERRERS, "a", "sha256:" + HEX)),
        # components that look like endpoints
        ("/v2/blobs/uploads/manifests/v1", Route(Kind.MANIFEST, "blobs/uploads", "v1")),
        ("/v2/tags/list/tags/list", Route(Kind.TAGS, "tags/list")),
        ("/v2/manifests/blobs/uploads/", Route(Kind.UPLOADS, "manifests")),
    ],
)
def test_paths_are_read_from_their_end(path: str, route: Route) -> None:
    assert parse(path) == route


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "a/../b",
        "a//b",
        "A",
        "a/.hidden",
        "a-",
        "-a",
        "a..b",
        "a___b",
        "a b",
        "a\x00",
        "é",
        "a/",
        "a%2fb",
        "x" * 256,
    ],
)
def test_names_outside_the_grammar_are_refused(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse(f"/v2/{name}/manifests/latest")
    assert refused.value.code in ("NAME_INVALID", "UNSUPPORTED")
    assert refused.value.status in (400, 404)


@pytest.mark.parametrize("path", ["/", "/v1/", "/v2", "/v3/x", "/v2/a", "/v2/a/manifests", "/v2/../etc/passwd"])
def test_other_paths_lead_nowhere(path: str) -> None:
    if path == "/v2":
        assert parse(path) == Route(Kind.BASE)
        return
    with pytest.raises(Refusal):
        parse(path)


def test_escapes_are_undone_before_names_are_checked() -> None:
    path, query = split("/v2/a%2F..%2Fb/tags/list?n=5&last=x%26y&n")
    assert path == "/v2/a/../b/tags/list"
    assert query == [("n", "5"), ("last", "x&y"), ("n", "")]


def test_a_target_may_be_a_whole_url() -> None:
    assert split("http://registry.example/v2/?a=b") == ("/v2/", [("a", "b")])


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a" * 129, "a/b", "a:b", "ä"])
def test_tags_outside_the_grammar_are_refused(tag: str) -> None:
    with pytest.raises(Refusal):
        checked_tag(tag)
