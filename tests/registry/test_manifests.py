"""Manifests, tags, listings and referrers over HTTP."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from knarr.registry.settings import Limits, ServerSettings
from knarr.spec import mediatype

from .conftest import CONFIG, Client, Start, described, digest, manifest

JSON = {"Content_Type": mediatype.OCI_MANIFEST}


def index(*manifests: bytes, **more: Any) -> bytes:
    listed = [described(raw, mediatype.OCI_MANIFEST) for raw in manifests]
    return json.dumps(
        {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": listed, **more}, indent=1
    ).encode()


def test_a_manifest_comes_back_as_it_was_by_tag_and_by_digest(client: Client) -> None:
    raw = manifest(b"layer") + b"\n\n"  # bytes that no encoder would make
    client.push_blob("a", CONFIG)
    client.push_blob("a", b"layer")
    pushed = client("PUT", "/v2/a/manifests/v1", raw, **JSON)
    assert (pushed.status, pushed.headers["Docker-Content-Digest"]) == (201, digest(raw))

    for reference in ("v1", digest(raw)):
        got = client("GET", f"/v2/a/manifests/{reference}", Accept="application/x-nothing")
        head = client("HEAD", f"/v2/a/manifests/{reference}")
        assert (got.body, got.headers["Content-Type"]) == (raw, mediatype.OCI_MANIFEST)
        assert (head.body, head.headers["Content-Length"]) == (b"", str(len(raw)))
        assert got.headers["Docker-Content-Digest"] == head.headers["Docker-Content-Digest"] == digest(raw)


def test_deleting_a_tag_leaves_the_manifest_and_deleting_the_manifest_takes_all_tags(client: Client) -> None:
    name = client.push_image("a", "v1", b"layer")
    client.push_image("a", "v2", b"layer")
    assert client("DELETE", "/v2/a/manifests/v1").status == 202
    assert client("GET", "/v2/a/manifests/v1").codes == ["MANIFEST_UNKNOWN"]
    assert client("GET", f"/v2/a/manifests/{name}").status == 200
    assert client("DELETE", f"/v2/a/manifests/{name}").status == 202
    assert client("HEAD", "/v2/a/manifests/v2").status == 404
    assert client("DELETE", f"/v2/a/manifests/{name}").status == 404
    assert client.push_image("a", "v2", b"layer") == name
    assert client("GET", "/v2/a/manifests/v2").status == 200


def test_a_registry_that_does_not_delete_says_so(start: Start) -> None:
    client = start(ServerSettings(delete=False)).client
    client.push_image("a", "v1", b"layer")
    for path in ("manifests/v1", f"blobs/{digest(CONFIG)}"):
        assert client("DELETE", f"/v2/a/{path}").status == 405


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schemaVersion":1}',
        b"[" * 100_000,
        b'{"schemaVersion":2,"config":5}',
        b'{"schemaVersion":2,"config":{"digest":"x","size":1},"layers":[]}',
        b'{"schemaVersion":2,"manifests":[{"digest":"sha256:' + b"a" * 64 + b'","size":-1}]}',
        b'{"schemaVersion":2,"manifests":{"a":1}}',
        b'{"schemaVersion":2,"manifests":[],"annotations":["a"]}',
        b'{"schemaVersion":2,"manifests":[],"layers":[]}',
        b'{"schemaVersion":2,"manifests":[],"subject":"x"}',
        b'{"schemaVersion":2,"manifests":[{"digest":"sha256:' + b"a" * 64 + b'","size":1,"data":"a"}]}',
        b'{"schemaVersion":2,"manifests":[{"digest":"sha256:' + b"a" * 64 + b'","size":1,"urls":3}]}',
        b"\xff\xfe",
        b'{"schemaVersion":2,"manifests":[],"artifactType":"\\ud800"}',
    ],
)
def test_what_is_no_manifest_is_refused(client: Client, raw: bytes) -> None:
    answer = client("PUT", "/v2/a/manifests/v1", raw)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])
    assert client("GET", "/v2/a/tags/list").codes == ["NAME_UNKNOWN"]


def test_a_content_type_that_contradicts_the_document_is_refused(client: Client) -> None:
    answer = client("PUT", "/v2/a/manifests/v1", index(), **JSON)
    assert answer.codes == ["MANIFEST_INVALID"]
    assert (
        client("PUT", "/v2/a/manifests/v1", index(), Content_Type=mediatype.OCI_INDEX + "; charset=utf-8").status == 201
    )


def test_a_manifest_over_the_limit_is_refused_and_one_of_four_megabytes_is_not(client: Client) -> None:
    large = index(annotations={"a": "x" * ((4 << 20) - 200)})
    assert len(large) > 4_000_000
    assert client("PUT", "/v2/a/manifests/v1", large, Content_Type=mediatype.OCI_INDEX).status == 201
    over = client("PUT", "/v2/a/manifests/v1", iter([large, b" " * 300]), Content_Type=mediatype.OCI_INDEX)
    assert (over.status, over.codes) == (413, ["SIZE_INVALID"])


def test_a_digest_that_is_not_the_bodys_is_refused(client: Client) -> None:
    answer = client("PUT", f"/v2/a/manifests/{digest(b'other')}", index())
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


def test_a_strict_registry_wants_the_parts_first_and_never_the_subject(start: Start) -> None:
    client = start(ServerSettings(sparse="indexes")).client
    client.push_blob("a", CONFIG)
    refused = client("PUT", "/v2/a/manifests/v1", manifest(b"layer"), **JSON)
    assert (refused.status, refused.codes) == (404, ["MANIFEST_BLOB_UNKNOWN"])
    assert refused.json["errors"][0]["detail"] == [{"digest": digest(b"layer")}]
    assert (
        client("PUT", "/v2/a/manifests/v1", index(manifest(b"absent")), Content_Type=mediatype.OCI_INDEX).status == 201
    )
    subject = described(b"absent", mediatype.OCI_MANIFEST)
    answer = client("PUT", "/v2/a/manifests/v2", manifest(subject=subject), **JSON)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, subject["digest"])


def test_a_strict_registry_can_want_the_manifests_of_an_index_too(start: Start) -> None:
    client = start(ServerSettings(sparse="none")).client
    raw = index(manifest(b"absent"))
    assert client("PUT", "/v2/a/manifests/v1", raw, Content_Type=mediatype.OCI_INDEX).codes == ["MANIFEST_BLOB_UNKNOWN"]


def test_several_tags_are_set_in_one_request(client: Client) -> None:
    raw = index()
    query = "&".join(f"tag=t{number}" for number in range(12))
    answer = client("PUT", f"/v2/a/manifests/{digest(raw)}?{query}", raw)
    assert answer.headers.get_all("OCI-Tag") == [f"t{number}" for number in range(12)]
    assert client("GET", "/v2/a/manifests/t11").body == raw
    assert client("PUT", f"/v2/a/manifests/{digest(raw)}?{'tag=x&' * 70}", raw).status == 414
    assert client("PUT", f"/v2/a/manifests/{digest(raw)}?tag=.x", raw).status == 400


def test_tags_are_listed_page_by_page(client: Client) -> None:
    raw = index()
    for tag in ("b", "a", "C", "10", "2"):
        client("PUT", f"/v2/a/manifests/{tag}", raw)
    assert client("GET", "/v2/a/tags/list").json == {"name": "a", "tags": ["10", "2", "C", "a", "b"]}
    seen, path = [], "/v2/a/tags/list?n=2"
    while path:
        page = client("GET", path)
        seen.append(page.json["tags"])
        link = re.fullmatch('<(.*)>; rel="next"', page.headers.get("Link", ""))
        path = link[1] if link else ""
    assert seen == [["10", "2"], ["C", "a"], ["b"]]
    nothing = client("GET", "/v2/a/tags/list?n=0")
    assert (nothing.json["tags"], nothing.headers["Link"]) == ([], None)
    assert client("GET", "/v2/a/tags/list?last=B").json["tags"] == ["C", "a", "b"]
    assert client("GET", "/v2/a/tags/list?n=x").status == 400


def test_the_catalog_lists_repositories_page_by_page(client: Client) -> None:
    for name in ("b/c", "a", "b"):
        client("PUT", f"/v2/{name}/manifests/v1", index())
    client.push_blob("only/blobs", b"x")
    assert client("GET", "/v2/_catalog").json == {"repositories": ["a", "b", "b/c"]}
    first = client("GET", "/v2/_catalog?n=2")
    assert (first.json["repositories"], first.headers["Link"]) == (["a", "b"], '</v2/_catalog?n=2&last=b>; rel="next"')


def test_referrers_are_listed_and_filtered(client: Client) -> None:
    subject = client.push_image("a", "v1", b"layer")
    about = {"mediaType": mediatype.OCI_MANIFEST, "digest": subject, "size": 1}
    sbom = client.push_image("a", "", b"sbom", subject=about, artifactType="text/sbom", annotations={"k": "v"})
    plain = client.push_image("a", "", b"plain", subject=about)
    found = client("GET", f"/v2/a/referrers/{subject}")
    assert found.headers["Content-Type"] == mediatype.OCI_INDEX
    kinds = {item["digest"]: (item["artifactType"], item.get("annotations")) for item in found.json["manifests"]}
    assert kinds == {sbom: ("text/sbom", {"k": "v"}), plain: (mediatype.OCI_CONFIG, None)}
    only = client("GET", f"/v2/a/referrers/{subject}?artifactType=text%2Fsbom")
    assert [item["digest"] for item in only.json["manifests"]] == [sbom]
    assert only.headers["OCI-Filters-Applied"] == "artifactType"
    client("DELETE", f"/v2/a/manifests/{sbom}")
    assert [item["digest"] for item in client("GET", f"/v2/a/referrers/{subject}").json["manifests"]] == [plain]


def test_referrers_of_the_unknown_are_none_and_of_nonsense_an_error(client: Client) -> None:
    assert client("GET", f"/v2/never/referrers/{digest(b'x')}").json["manifests"] == []
    assert client("GET", "/v2/never/referrers/sha256:x").status == 400


def test_many_referrers_come_in_pages_that_clients_can_read(start: Start) -> None:
    client = start(ServerSettings(limits=Limits(referrers_bytes=1000))).client
    about = described(b"subject", mediatype.OCI_MANIFEST)
    made = {
        client.push_image("a", "", str(number).encode(), subject=about, artifactType="x/y" if number % 2 else "x/z")
        for number in range(20)
    }
    seen: list[str] = []
    path = f"/v2/a/referrers/{about['digest']}"
    while path:
        page = client("GET", path)
        assert len(page.body) < 1200
        seen += [item["digest"] for item in page.json["manifests"]]
        path = (page.headers.get("Link") or "<>").partition(">")[0].removeprefix("<")
    assert len(seen) == 20
    assert set(seen) == made


def test_methods_that_make_no_sense_are_told_which_do(client: Client) -> None:
    for path in ("/v2/", "/v2/a/tags/list", "/v2/_catalog", f"/v2/a/blobs/{digest(b'x')}", "/v2/a/manifests/v1"):
        answer = client("POST", path)
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]
