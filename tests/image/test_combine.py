from __future__ import annotations

import json

import pytest

from knarr.errors import NotFound, UsageError
from knarr.image.combine import Note, Part, combine
from knarr.spec.descriptor import Descriptor
from knarr.spec.manifest import Index, decode, encode_index
from knarr.spec.platform import Platform
from tests.image.universe import Universe

ONE, TWO = Universe("one"), Universe("two")


def part(universe: Universe, name: str = "") -> Part:
    if not name:
        return Part(universe.root, universe.index, f"corp.example/{universe.seed}")
    manifest = universe.amd64 if name == "amd64" else universe.arm64
    return Part(universe.described(manifest, f"linux/{name}"), manifest, f"corp.example/{universe.seed}")


def entries(document: object) -> list[tuple[str, str]]:
    assert isinstance(document, Index)
    return [(entry.digest, str(entry.platform)) for entry in document.manifests]


def test_one_index_stays_byte_for_byte() -> None:
    made = combine([part(ONE)])
    assert made.document.raw == ONE.index.raw


def test_platforms_of_several_builds_come_together_with_their_attestations() -> None:
    made = combine([part(ONE), part(TWO, "amd64")])

    assert entries(made.document)[:2] == [
        (ONE.amd64.descriptor.digest, "linux/amd64"),
        (ONE.arm64.descriptor.digest, "linux/arm64"),
    ]
    assert len(entries(made.document)) == 6
    assert made.places[TWO.amd64.descriptor.digest] == "corp.example/two"


def test_equal_sources_are_one_entry_that_knows_what_both_know() -> None:
    bare = Part(ONE.amd64.descriptor.bare(), ONE.amd64, "corp.example/one")
    made = combine([bare, part(ONE, "amd64")])
    assert entries(made.document) == [(ONE.amd64.descriptor.digest, "linux/amd64")]


def test_a_single_manifest_becomes_an_index_unless_told_otherwise() -> None:
    assert isinstance(combine([part(ONE, "amd64")]).document, Index)
    assert combine([part(ONE, "amd64")], prefer_index=False).document is ONE.amd64


def test_annotations_go_to_the_index_and_to_entries_of_a_platform() -> None:
    arm64 = Platform.parse("linux/arm64")
    made = combine([part(ONE)], annotations={"a": "b"}, notes=[Note("c", "d", arm64)])

    document = json.loads(made.document.raw)
    assert document["annotations"] == {"a": "b"}
    assert [entry.get("annotations", {}).get("c") for entry in document["manifests"]] == [None, "d", None, None, None]


def test_a_platform_that_no_source_has_is_told() -> None:
    with pytest.raises(NotFound):
        combine([part(ONE)], platforms=[Platform.parse("linux/s390x")])


def test_dockers_list_has_no_place_for_annotations() -> None:
    entry = Descriptor("application/vnd.docker.distribution.manifest.v2+json", ONE.amd64.descriptor.digest, 1)
    with pytest.raises(UsageError):
        combine([Part(entry, ONE.amd64, "x")], annotations={"a": "b"})


def test_a_platform_is_written_as_it_was_read() -> None:
    text = b'{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s",'
    text += b'"size":2,"platform":{"architecture":"arm64","os":"linux","variant":"v8","new.member":1}}]}'
    read = decode(text % ONE.arm64.descriptor.digest.encode())
    assert isinstance(read, Index)

    written = json.loads(encode_index(read.manifests).raw)["manifests"][0]["platform"]

    assert written == {"architecture": "arm64", "os": "linux", "variant": "v8", "new.member": 1}
