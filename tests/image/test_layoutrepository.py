"""A layout as a repository that several write to at once."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from knarr.errors import NotFound
from knarr.image.layout import blob_path
from knarr.image.layoutrepository import LayoutRepository
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Manifest, encode_manifest
from knarr.spec.referrers import fallback_tag
from knarr.streams import Readable

SUBJECT = Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.of(b"subject"), 7)
EMPTY = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2)


def about(kind: str) -> Manifest:
    return encode_manifest(EMPTY, [EMPTY], subject=SUBJECT, artifact_type=kind)


def attach(place: LayoutRepository, kind: str) -> Digest:
    made = about(kind)
    place.push_manifest(made.descriptor, made.raw)
    return made.descriptor.digest


def test_a_list_of_referrers_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, other = LayoutRepository.create(tmp_path), LayoutRepository.at(tmp_path)
    expected = [attach(place, "first")]
    usual = place.open

    def late(descriptor: Descriptor) -> AbstractContextManager[Readable]:
        if len(expected) == 1:
            expected.append(attach(other, "second"))
        return usual(descriptor)

    monkeypatch.setattr(place, "open", late)
    assert [found.digest for found in place.predecessors(SUBJECT)] == expected


def test_a_list_of_referrers_that_is_lost_is_told(tmp_path: Path) -> None:
    place = LayoutRepository.create(tmp_path)
    attach(place, "first")
    os.unlink(tmp_path / blob_path(place.resolve(fallback_tag(SUBJECT.digest)).digest))
    with pytest.raises(NotFound):
        place.fallback(SUBJECT.digest)
