"""What a descriptor leads to."""

from __future__ import annotations

from typing import Any

import pytest

from knarr.errors import ContentError, SizeMismatch
from knarr.image.successors import read_config, read_document, read_small, successors, walk
from knarr.record import replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Manifest


def test_a_walk_names_children_first_and_each_digest_once(images: Any) -> None:
    root = images.two_platforms()

    order = [found.digest for found in walk(images.layout, root)]

    assert len(order) == len(set(order))
    assert order[-1] == root.digest
    for entry in successors(images.layout, root):
        for child in successors(images.layout, entry):
            assert order.index(child.digest) < order.index(entry.digest)


def test_a_blob_has_no_successors(images: Any) -> None:
    blob = images.put("application/octet-stream", b"x")

    assert successors(images.layout, blob) == ()
    assert list(walk(images.layout, blob)) == [blob]


def test_a_document_that_claims_to_be_huge_is_not_read(images: Any) -> None:
    root = replace(images.manifest(), size=1 << 40)

    with pytest.raises(SizeMismatch, match="over the limit"):
        read_document(images.layout, root)


def test_embedded_data_counts_only_if_it_is_the_content(images: Any) -> None:
    stored = images.put("application/octet-stream", b"true")

    assert read_small(images.layout, replace(stored, data=b"lies"), limit=10) == b"true"
    missing = Descriptor("", Digest.of(b"{}"), 2, data=b"{}")
    assert read_small(images.layout, missing, limit=10) == b"{}"


def test_an_artifact_has_no_image_config(images: Any) -> None:
    document = read_document(images.layout, images.manifest())
    assert isinstance(document, Manifest)
    artifact = replace(document, config=replace(document.config, media_type="application/vnd.example"))

    assert read_config(images.layout, document).platform.os == "linux"
    with pytest.raises(ContentError, match="an artifact of type"):
        read_config(images.layout, artifact)
