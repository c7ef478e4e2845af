from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import ContentError, NotFound
from knarr.spec.digest import Digest
from knarr.spec.manifest import EMPTY, Index, decode, encode_index, encode_manifest
from knarr.spec.reference import Reference
from knarr.spec.referrers import fallback_tag

from .conftest import Connect
from .fakeregistry import INDEX, FakeRegistry
from .material import LAYER, image

SUBJECT = image(LAYER).descriptor.bare()
ONE = image(artifact_type="application/x-one", subject=SUBJECT, annotations={"a": "b"})
TWO = image(subject=SUBJECT)  # no artifact type: its config's counts


@given(st.sampled_from(["sha256", "sha512"]), st.data())
def test_the_fallback_tag_is_a_valid_tag_that_names_the_digest(algorithm: str, data: st.DataObject) -> None:
    length = {"sha256": 64, "sha512": 128}[algorithm]
    text = data.draw(st.text("0123456789abcdef", min_size=length, max_size=length))
    tag = fallback_tag(Digest.parse(f"{algorithm}:{text}"))
    assert tag == f"{algorithm}-{text[:64]}"


def test_a_registry_with_the_api_keeps_the_list_itself(fake: FakeRegistry, connect: Connect) -> None:
    repository = connect().repository(Reference.parse(f"{fake.host}/app"))
    for manifest in (ONE, TWO):
        repository.push_manifest(manifest.descriptor, manifest.raw)

    assert {d.digest for d in repository.predecessors(SUBJECT)} == {ONE.descriptor.digest, TWO.descriptor.digest}
    assert [d.digest for d in repository.predecessors(SUBJECT, "application/x-one")] == [ONE.descriptor.digest]
    assert fake.tags == {}


def test_without_the_api_the_fallback_tag_is_kept_by_us(connect: Connect) -> None:
    with FakeRegistry(referrers=False) as fake:
        repository = connect().repository(Reference.parse(f"{fake.host}/app"))
        for manifest in (ONE, TWO, ONE):
            repository.push_manifest(manifest.descriptor, manifest.raw)

        one, two = repository.predecessors(SUBJECT)
        assert (one.digest, one.artifact_type, one.annotations) == (
            ONE.descriptor.digest,
            "application/x-one",
            {"a": "b"},
        )
        assert (two.digest, two.artifact_type) == (TWO.descriptor.digest, TWO.config.media_type)
        kind, raw = fake.manifests["app", fake.tags["app", fallback_tag(SUBJECT.digest)]]
        assert kind == INDEX
        assert isinstance(decode(raw), Index)


def test_a_lost_race_for_the_fallback_tag_is_run_again(connect: Connect) -> None:
    with FakeRegistry(referrers=False) as fake:
        repository = connect().repository(Reference.parse(f"{fake.host}/app"))
        # Our first write of the tag answers well and is lost, as when another client wrote over it.
        fake.fail("PUT", fallback_tag(SUBJECT.digest), status=201)
        repository.push_manifest(ONE.descriptor, ONE.raw)
        assert [d.digest for d in repository.predecessors(SUBJECT)] == [ONE.descriptor.digest]


def test_a_tag_of_that_name_that_is_no_index_is_not_overwritten(connect: Connect) -> None:
    with FakeRegistry(referrers=False) as fake:
        foreign = image(b"foreign")
        fake.add_manifest("app", fallback_tag(SUBJECT.digest), foreign.raw, foreign.media_type)
        with pytest.raises(ContentError, match="is not an index"):
            connect().repository(Reference.parse(f"{fake.host}/app")).push_manifest(ONE.descriptor, ONE.raw)


def test_a_tag_that_names_the_subject_itself_is_no_list(connect: Connect) -> None:
    """cosign's copies have such tags; of an index its platforms would pass for referrers."""
    with FakeRegistry(referrers=False) as fake:
        child = image(b"child")
        index = encode_index([child.descriptor])
        for document in (child, index):
            tag = fallback_tag(document.descriptor.digest)
            fake.add_manifest("app", tag, document.raw, document.media_type)
            place = connect().repository(Reference.parse(f"{fake.host}/app"))
            assert place.predecessors(document.descriptor) == ()
            referrer = encode_manifest(EMPTY, [EMPTY], subject=document.descriptor.bare())
            place.push_manifest(referrer.descriptor, referrer.raw)
            assert [d.digest for d in place.predecessors(document.descriptor)] == [referrer.descriptor.digest]


def test_deleting_a_referrer_takes_it_off_the_fallback_tag(connect: Connect) -> None:
    with FakeRegistry(referrers=False) as fake:
        repository = connect().repository(Reference.parse(f"{fake.host}/app"))
        for manifest in (ONE, TWO):
            repository.push_manifest(manifest.descriptor, manifest.raw)
        repository.delete(str(ONE.descriptor.digest))
        assert [d.digest for d in repository.predecessors(SUBJECT)] == [TWO.descriptor.digest]


def test_a_server_that_says_200_to_anything_has_no_api(fake: FakeRegistry, connect: Connect) -> None:
    fake.fail("GET", "/referrers/", status=200, body=b"<html>")
    assert connect().repository(Reference.parse(f"{fake.host}/app")).predecessors(SUBJECT) == ()


def test_deleting_a_tag_leaves_the_manifest(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_manifest("app", "1", ONE.raw, ONE.media_type)
    repository = connect().repository(Reference.parse(f"{fake.host}/app"))
    repository.delete("1")
    assert fake.tags == {}
    assert repository.has(ONE.descriptor)
    with pytest.raises(NotFound):
        repository.delete("1")
