"""In-toto statements as BuildKit writes them."""

from __future__ import annotations

import json

import pytest

from knarr.attest.statement import Attestation, Subject, indented, ordered, statement, subject_of
from knarr.errors import ContentError
from knarr.spec.digest import Digest

OWN = [subject_of("pkg:docker/app@1", Digest.of(b"app"))]


def said(predicate: bytes = b"{}", *subjects: Subject, path: str = "a.json") -> Attestation:
    return Attestation("https://example.test/it", path, lambda: predicate, subjects)


def test_a_statement_is_compact_and_keeps_numbers_and_order() -> None:
    raw = statement(said(b'{ "b": 1.50, "a": [ 1e3, "x  <\\u00e9\\"y" ] }'), OWN)

    assert raw == (
        b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.test/it",'
        b'"subject":[{"name":"pkg:docker/app@1","digest":{"sha256":"' + Digest.of(b"app").hex.encode() + b'"}}],'
        b'"predicate":{"b":1.50,"a":[1e3,"x  \\u003c\\u00e9\\"y"]}}'
    )
    assert json.loads(indented(raw)) == json.loads(raw)


def test_an_attestation_without_a_name_for_its_image_has_no_subject() -> None:
    assert json.loads(statement(said(), []))["subject"] == []


def test_a_further_name_of_the_result_stands_beside_its_own() -> None:
    found = json.loads(statement(said(b"{}", Subject("more")), OWN))["subject"]

    assert [one["name"] for one in found] == ["pkg:docker/app@1", "more"]
    assert found[0]["digest"] == found[1]["digest"]


def test_a_subject_of_its_own_needs_no_name() -> None:
    found = json.loads(statement(said(b"{}", Subject("", {"sha256": "0a"}), Subject("f", {})), OWN))["subject"]

    assert found == [{"name": "_", "digest": {"sha256": "0a"}}, {"name": "f", "digest": {}}]


@pytest.mark.parametrize("predicate", [b"{", b"{} {}", b'{"a":NaN}', b"[" * 100_000, b"\xff"])
def test_a_predicate_that_is_not_json_is_refused_by_its_file(predicate: bytes) -> None:
    with pytest.raises(ContentError, match=r"^a\.json: the attestation is not JSON"):
        statement(said(predicate), OWN)


def test_a_predicate_without_content_is_null() -> None:
    assert json.loads(statement(said(b""), OWN))["predicate"] is None


def test_the_sbom_of_the_result_itself_comes_first() -> None:
    def sbom(path: str) -> Attestation:
        return Attestation("https://spdx.dev/Document", path, lambda: b"{}", core="sbom")

    assert [one.path for one in ordered([said(path="p"), sbom("sbom-base.spdx.json"), sbom("sbom.spdx.json")])] == [
        "sbom.spdx.json",
        "p",
        "sbom-base.spdx.json",
    ]
