"""What is signed is found again, in every form; what is damaged, missing or misplaced is told and does not count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from knarr.attest.claim import statement
from knarr.attest.evidence import ATT_TAG, BUNDLE, IN_INDEX, SIG_TAG, Evidence
from knarr.attest.judge import Wish, judge
from knarr.errors import ContentError, UsageError
from knarr.image.layoutrepository import LayoutRepository
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_index
from knarr.spec.referrers import fallback_tag
from knarr.trust.gather import ATTESTATIONS, EVERYTHING, SIGNATURES, gather
from knarr.trust.signing import BOTH, TAG, SignOptions, sign_image, sign_statement
from knarr.trust.signing import BUNDLE as IN_BUNDLE
from knarr.trust.subjects import subjects_of, unsigned_statements

from .conftest import PROVENANCE, Keys, Stage

NAME = "registry.example/app:1"


def forms(pieces: tuple[Evidence, ...]) -> list[str]:
    return [piece.form for piece in pieces]


@pytest.mark.parametrize(("form", "found"), [(TAG, [SIG_TAG]), (IN_BUNDLE, [BUNDLE]), (BOTH, [SIG_TAG, BUNDLE])])
def test_a_signature_is_found_where_it_was_put(stage: Stage, keys: Keys, form: str, found: list[str]) -> None:
    sign_image(stage.place, stage.root, NAME, SignOptions((keys.one,), form, {"env": "prod"}))
    pieces = gather(stage.place, stage.root, wanted=SIGNATURES)
    assert forms(pieces) == found
    assert judge(pieces, stage.root.digest, Wish((keys.public,), annotations={"env": "prod"})).accepted


def test_signing_again_adds_nothing(stage: Stage, keys: Keys) -> None:
    options = SignOptions((keys.one,))
    sign_image(stage.place, stage.root, NAME, options)
    before = gather(stage.place, stage.root, wanted=SIGNATURES)
    assert sign_image(stage.place, stage.root, NAME, options) == ()
    assert gather(stage.place, stage.root, wanted=SIGNATURES) == before


def test_several_sign_one_image(stage: Stage, keys: Keys) -> None:
    sign_image(stage.place, stage.root, NAME, SignOptions((keys.one,)))
    sign_image(stage.place, stage.root, NAME, SignOptions((keys.two,)))
    pieces = gather(stage.place, stage.root, wanted=SIGNATURES)
    assert forms(pieces) == [SIG_TAG, SIG_TAG, BUNDLE, BUNDLE]
    assert judge(pieces, stage.root.digest, Wish((keys.public, keys.two.public), threshold=2)).accepted


def test_replacing_takes_away_ones_own_only(stage: Stage, keys: Keys) -> None:
    for key in (keys.one, keys.two):
        sign_image(stage.place, stage.root, NAME, SignOptions((key,), TAG, {"n": "1"}))
    sign_image(stage.place, stage.root, NAME, SignOptions((keys.one,), TAG, {"n": "2"}, replace=True))
    pieces = gather(stage.place, stage.root, wanted=SIGNATURES)
    assert [piece.claim.annotations["n"] for piece in pieces if piece.claim] == ["1", "2"]
    assert not judge(pieces, stage.root.digest, Wish((keys.public,), annotations={"n": "1"})).accepted


def test_two_who_sign_at_once_lose_nothing(stage: Stage) -> None:
    from knarr.attest.keys import LocalKey, make

    signers = [LocalKey(make("ed25519"), str(number)) for number in range(6)]
    with Scope() as scope:
        for signer in signers:
            options = SignOptions((signer,))
            scope.start(sign_image, LayoutRepository.at(stage.path), stage.root, NAME, options)
    pieces = gather(stage.place, stage.root, wanted=SIGNATURES)
    keys = tuple(signer.public for signer in signers)
    assert judge(pieces, stage.root.digest, Wish(keys, threshold=6)).accepted


def test_every_platform_is_a_subject(stage: Stage) -> None:
    found = subjects_of(stage.place, stage.root, recursive=True)
    assert [subject.descriptor.digest for subject in found] == [
        stage.root.digest,
        *(child.digest for child in stage.children),
    ]
    assert [subject.platform for subject in found] == ["", "linux/amd64", "linux/arm64"]


def test_attestations_of_an_index_are_found_and_signed(stage: Stage, keys: Keys) -> None:
    subject = subjects_of(stage.place, stage.root, recursive=True)[1]
    (said,) = unsigned_statements(stage.place, subject)
    sign_statement(stage.place, subject.descriptor, said, SignOptions((keys.one,)))
    pieces = gather(stage.place, subject.descriptor, index=subject.index, wanted=ATTESTATIONS)
    assert forms(pieces) == [ATT_TAG, IN_INDEX, BUNDLE]
    verdict = judge(pieces, subject.descriptor.digest, Wish((keys.public,), predicate_type=PROVENANCE))
    assert verdict.accepted
    assert [finding.counts for finding in verdict.findings] == [True, False, True]


def test_a_statement_about_something_else_is_not_signed(stage: Stage, keys: Keys) -> None:
    said = statement(Digest.of(b"other"), "app", PROVENANCE, {})
    with pytest.raises(UsageError, match="the statement is about"):
        sign_statement(stage.place, stage.root, said, SignOptions((keys.one,)))
    with pytest.raises(ContentError, match="not JSON"):
        sign_statement(stage.place, stage.root, b"nothing", SignOptions((keys.one,)))


def test_a_tag_that_holds_an_index_is_left_alone(stage: Stage, keys: Keys) -> None:
    index = encode_index([])
    stage.place.push_manifest(index.descriptor.bare(), index.raw, tag=f"{fallback_tag(stage.root.digest)}.sig")
    with pytest.raises(ContentError, match="holds an index"):
        sign_image(stage.place, stage.root, NAME, SignOptions((keys.one,), TAG))


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [damage, Path.unlink], ids=["damaged", "missing"])
@pytest.mark.parametrize("form", [TAG, IN_BUNDLE])
def test_content_that_is_not_what_it_was_is_told_and_does_not_count(
    stage: Stage, keys: Keys, form: str, harm: Callable[[Path], None]
) -> None:
    sign_image(stage.place, stage.root, NAME, SignOptions((keys.one,), form))
    (piece,) = gather(stage.place, stage.root, wanted=SIGNATURES)
    harm(stage.blob(piece.digest))
    pieces = gather(stage.place, stage.root, wanted=SIGNATURES)
    verdict = judge(pieces, stage.root.digest, Wish((keys.public,)))
    assert not verdict.accepted
    assert "content" in verdict.reason


def test_a_signature_that_was_moved_to_another_image_does_not_count(stage: Stage, keys: Keys) -> None:
    sign_image(stage.place, stage.children[0], NAME, SignOptions((keys.one,), TAG))
    moved = stage.place.resolve(f"{fallback_tag(stage.children[0].digest)}.sig")
    raw = stage.blob(moved.digest).read_bytes()
    stage.place.push_manifest(moved.bare(), raw, tag=f"{fallback_tag(stage.children[1].digest)}.sig")
    pieces = gather(stage.place, stage.children[1], wanted=SIGNATURES)
    verdict = judge(pieces, stage.children[1].digest, Wish((keys.public,)))
    assert f"it is about {stage.children[0].digest}" in verdict.reason


def test_a_referrer_that_names_another_subject_is_told(stage: Stage, keys: Keys) -> None:
    class Lying(LayoutRepository):
        def predecessors(self, descriptor: Descriptor, artifact_type: str = "") -> tuple[Descriptor, ...]:
            return super().predecessors(stage.children[0], artifact_type)

    sign_image(stage.place, stage.children[0], NAME, SignOptions((keys.one,), IN_BUNDLE))
    pieces = gather(Lying.at(stage.path), stage.children[1], wanted=SIGNATURES)
    assert pieces
    assert all("does not name the image" in piece.problem for piece in pieces)
    assert not judge(pieces, stage.children[1].digest, Wish((keys.public,))).accepted


def test_what_is_too_large_is_not_read(stage: Stage, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knarr.trust.gather.MAX_BYTES", 100)
    sign_image(stage.place, stage.root, NAME, SignOptions((keys.one,)))
    pieces = gather(stage.place, stage.root, wanted=EVERYTHING)
    assert all("more than is read" in piece.problem for piece in pieces)
    assert not judge(pieces, stage.root.digest, Wish((keys.public,))).accepted


def test_an_image_that_more_hangs_on_than_is_sane_is_refused(
    stage: Stage, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knarr.trust.gather._MOST_DOCUMENTS", 1)
    sign_image(stage.place, stage.root, NAME, SignOptions((keys.one,)))
    with pytest.raises(ContentError, match="more than 1 documents hang on it"):
        gather(stage.place, stage.root)
