"""Pure changes to documents."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.image.edit import in_words_of, media_type, with_annotations, with_config, with_entries
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest, decode, encode_index, encode_manifest
from knarr.spec.platform import Platform


def blob(text: str, kind: str = mediatype.OCI_LAYER_GZIP) -> Descriptor:
    return Descriptor(kind, Digest.of(text.encode()), len(text))


MANIFEST = encode_manifest(blob("config", mediatype.OCI_CONFIG), [blob("layer")], annotations={"a": "1"})


def test_annotations_are_added_and_the_old_document_stays() -> None:
    changed = with_annotations(MANIFEST, {"b": "2", "a": "3"})

    assert changed.annotations == {"a": "3", "b": "2"}
    assert MANIFEST.annotations == {"a": "1"}
    assert changed.descriptor.digest == Digest.of(changed.raw) != MANIFEST.descriptor.digest


def test_no_annotations_change_no_byte() -> None:
    assert with_annotations(MANIFEST, {}) is MANIFEST


def test_members_of_a_newer_spec_survive() -> None:
    raw = json.dumps({**json.loads(MANIFEST.raw), "newer": {"x": [1]}}).encode()
    document = decode(raw)
    assert isinstance(document, Manifest)

    changed = with_config(document, blob("other", mediatype.OCI_CONFIG))

    assert json.loads(changed.raw)["newer"] == {"x": [1]}
    assert changed.config == blob("other", mediatype.OCI_CONFIG)


def test_an_index_can_be_cut_down_to_some_entries() -> None:
    entries = [
        Descriptor(mediatype.OCI_MANIFEST, Digest.of(name.encode()), 1, Platform.parse(name), extra={"x": 1})
        for name in ("linux/amd64", "linux/arm64")
    ]
    index = decode(encode_index(entries, annotations={"k": "v"}).raw)
    assert isinstance(index, Index)

    changed = with_entries(index, index.manifests[1:])

    assert changed.manifests == (entries[1],)
    assert changed.annotations == {"k": "v"}


def test_layers_can_be_called_by_dockers_names_and_back() -> None:
    layer = blob("layer")

    docker = in_words_of(layer, oci=False)

    assert docker.media_type == mediatype.DOCKER_LAYER_GZIP
    assert docker.digest == layer.digest
    assert in_words_of(docker, oci=True) == layer
    assert media_type("application/vnd.in-toto+json", oci=False) == "application/vnd.in-toto+json"


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_annotations_round_trip(annotations: dict[str, str]) -> None:
    assert {**annotations, "a": "1"} | annotations == dict(with_annotations(MANIFEST, annotations).annotations)
