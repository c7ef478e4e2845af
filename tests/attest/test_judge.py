"""Verdicts: what counts, and that nothing passes which was changed, misplaced, or signed by others."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.attest import bundle, claim, dsse
from knarr.attest.evidence import ATT_TAG, BUNDLE, SIG_TAG, SIGNATURE, Evidence, absent, of_layer
from knarr.attest.judge import Wish, judge
from knarr.attest.keys import LocalKey, PublicKey, make
from knarr.attest.naming import EXACT, REPOSITORY, NameRule
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.mediatype import IN_TOTO

IMAGE, OTHER = Digest.of(b"image"), Digest.of(b"other")
KEY = LocalKey(make("ecdsa-p256"))
SECOND = LocalKey(make("ed25519"))
PUBLIC = PublicKey(KEY.public.key, "release.pub")
TYPE = "https://slsa.dev/provenance/v1"
NAME = "registry.example/app:1"


def tag_signature(
    key: LocalKey = KEY, digest: Digest = IMAGE, name: str = NAME, annotations: dict[str, str] | None = None
) -> tuple[Descriptor, bytes]:
    payload = claim.simple_signing(digest, name, annotations or {})
    text = base64.b64encode(key.sign(payload)).decode()
    return layer(claim.SIMPLE_SIGNING, payload, {SIGNATURE: text}), payload


def layer(kind: str, data: bytes, annotations: dict[str, str] | None = None) -> Descriptor:
    return Descriptor(kind, Digest.of(data), len(data), annotations=annotations or {})


def read(found: tuple[Descriptor, bytes], form: str = SIG_TAG) -> Evidence:
    return of_layer(*found, on=IMAGE, form=form)


def bundled(key: LocalKey = KEY, digest: Digest = IMAGE, name: str = NAME) -> tuple[Descriptor, bytes]:
    data = bundle.seal(claim.signing_statement(digest, name, {}), key)
    return layer(bundle.MEDIA_TYPE, data), data


def enveloped(key: LocalKey = KEY, digest: Digest = IMAGE, kind: str = TYPE) -> tuple[Descriptor, bytes]:
    data = dsse.dump(dsse.seal(claim.statement(digest, "app", kind, {"a": 1}), IN_TOTO, [key]))
    return layer(dsse.MEDIA_TYPE, data), data


@pytest.mark.parametrize("made", [tag_signature, bundled], ids=["tag", "bundle"])
def test_a_signature_by_a_trusted_key_counts(made: object) -> None:
    verdict = judge([read(made())], IMAGE, Wish((PUBLIC,)))  # type: ignore[operator]  # both are callable
    assert verdict.accepted
    assert verdict.signers == ("release.pub",)


def test_an_attestation_by_a_trusted_key_counts_for_its_type_alone() -> None:
    pieces = [read(enveloped(), ATT_TAG)]
    assert judge(pieces, IMAGE, Wish((PUBLIC,), predicate_type=TYPE)).accepted
    assert judge(pieces, IMAGE, Wish((PUBLIC,), predicate_type="")).accepted
    assert judge(pieces, IMAGE, Wish((PUBLIC,), predicate_type="https://spdx.dev/Document")).reason == (
        "there is no attestation of type https://spdx.dev/Document"
    )
    assert judge(pieces, IMAGE, Wish((PUBLIC,))).reason == "there is no signature"


def test_nothing_is_no_signature() -> None:
    verdict = judge([], IMAGE, Wish((PUBLIC,)))
    assert not verdict.accepted
    assert verdict.reason == "there is no signature"


def test_with_nobody_to_trust_nothing_counts() -> None:
    assert not judge([read(tag_signature())], IMAGE, Wish()).accepted


@pytest.mark.parametrize("made", [tag_signature, bundled], ids=["tag", "bundle"])
def test_a_signature_of_another_key_does_not_count_and_says_so(made: object) -> None:
    verdict = judge([read(made(SECOND))], IMAGE, Wish((PUBLIC,)))  # type: ignore[operator]  # both are callable
    assert not verdict.accepted
    assert "release.pub" in verdict.reason


@pytest.mark.parametrize("made", [tag_signature, bundled], ids=["tag", "bundle"])
def test_a_signature_of_another_image_does_not_count(made: object) -> None:
    verdict = judge([read(made(digest=OTHER))], IMAGE, Wish((PUBLIC,)))  # type: ignore[operator]  # both are callable
    assert verdict.reason == f"the signature does not count: it is about {OTHER}, and not about {IMAGE}"


def test_one_good_signature_among_bad_ones_is_enough() -> None:
    pieces = [
        read(tag_signature(SECOND)),
        absent(SIG_TAG, IMAGE, OTHER, "its manifest is there, and its content is not"),
        read(tag_signature(digest=OTHER)),
        read(tag_signature()),
    ]
    verdict = judge(pieces, IMAGE, Wish((PUBLIC,)))
    assert verdict.accepted
    assert [finding.counts for finding in verdict.findings] == [False, False, False, True]


def test_a_threshold_counts_signers_and_not_signatures() -> None:
    keys = (PUBLIC, SECOND.public)
    twice = [read(tag_signature()), read(bundled())]
    assert judge(twice, IMAGE, Wish(keys, threshold=2)).reason == (
        "1 of the signers that are trusted signed it, and 2 are needed"
    )
    assert judge([*twice, read(tag_signature(SECOND))], IMAGE, Wish(keys, threshold=2)).accepted


def test_annotations_that_are_asked_for_must_be_signed() -> None:
    pieces = [read(tag_signature(annotations={"env": "prod"}))]
    assert judge(pieces, IMAGE, Wish((PUBLIC,), annotations={"env": "prod"})).accepted
    assert not judge(pieces, IMAGE, Wish((PUBLIC,), annotations={"env": "test"})).accepted
    assert not judge(pieces, IMAGE, Wish((PUBLIC,), annotations={"who": "me"})).accepted


def test_the_name_that_was_signed_is_compared_when_asked() -> None:
    wish = Wish((PUBLIC,), name=NameRule(EXACT), signed_as=NAME)
    assert judge([read(tag_signature())], IMAGE, wish).accepted
    moved = judge([read(tag_signature(name="registry.example/app:2"))], IMAGE, wish)
    assert moved.reason == (
        "the signature does not count: it signs registry.example/app:2, and registry.example/app:1 is asked for"
    )
    other = Wish((PUBLIC,), name=NameRule(REPOSITORY), signed_as=NAME)
    assert judge([read(tag_signature(name="registry.example/app"))], IMAGE, other).accepted
    assert not judge([read(tag_signature(name="registry.example/else"))], IMAGE, other).accepted
    assert judge([read(bundled())], IMAGE, other).accepted
    assert "names no image" in judge([read(bundled(name=""))], IMAGE, other).reason  # cosign's


def test_a_statement_that_nobody_signed_does_not_count() -> None:
    data = claim.statement(IMAGE, "app", TYPE, {})
    verdict = judge([read((layer(IN_TOTO, data), data))], IMAGE, Wish((PUBLIC,), predicate_type=TYPE))
    assert verdict.reason == f"the attestation of type {TYPE} does not count: nobody signed it"


def test_a_signature_cannot_stand_in_for_an_attestation_or_the_reverse() -> None:
    assert not judge([read(bundled())], IMAGE, Wish((PUBLIC,), predicate_type="")).accepted
    assert not judge([read(enveloped())], IMAGE, Wish((PUBLIC,))).accepted


def test_a_payload_in_an_envelope_of_another_type_is_not_read_as_a_statement() -> None:
    data = dsse.dump(dsse.seal(claim.statement(IMAGE, "a", TYPE, {}), "text/plain", [KEY]))
    assert "claims nothing of images" in read((layer(dsse.MEDIA_TYPE, data), data)).problem


SIGNED = (bundled(), enveloped(), tag_signature())  # made once: ECDSA gives another signature each time


@given(st.data())
def test_one_changed_byte_in_an_envelope_never_passes_as_something_else(data: st.DataObject) -> None:
    """The content that is believed after a flip is the content that was signed, or there is none."""
    found, raw = data.draw(st.sampled_from(SIGNED[:2]))
    index = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:index] + bytes([raw[index] ^ data.draw(st.integers(1, 255))]) + raw[index + 1 :]
    before, after = read((found, raw)), read((found, changed))
    wish = Wish((PUBLIC,), predicate_type=None if found.media_type == bundle.MEDIA_TYPE else TYPE)
    if judge([after], IMAGE, wish).accepted:
        # A flip in what nobody believes (a hint, a member's name that is not read): the claim is the same.
        assert after.payload == before.payload


@given(st.data())
def test_one_changed_byte_in_a_payload_or_its_signature_never_passes(data: st.DataObject) -> None:
    found, raw = SIGNED[2]
    signature = base64.b64decode(found.annotations[SIGNATURE])
    both = raw + signature
    index, flip = data.draw(st.integers(0, len(both) - 1)), data.draw(st.integers(1, 255))
    changed = both[:index] + bytes([both[index] ^ flip]) + both[index + 1 :]
    text = base64.b64encode(changed[len(raw) :]).decode()
    piece = read((layer(claim.SIMPLE_SIGNING, changed[: len(raw)], {SIGNATURE: text}), changed[: len(raw)]))
    assert not judge([piece], IMAGE, Wish((PUBLIC,))).accepted


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reading_fail(raw: bytes) -> None:
    for kind in (claim.SIMPLE_SIGNING, dsse.MEDIA_TYPE, bundle.MEDIA_TYPE, IN_TOTO):
        piece = of_layer(layer(kind, raw, {SIGNATURE: "AAAA"}), raw, on=IMAGE, form=SIG_TAG)
        assert piece.problem
        assert not judge([piece], IMAGE, Wish((PUBLIC,))).accepted


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab:/ 0", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab:/ 0", max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ("payload", "payloadType", "signatures", "mediaType", "verificationMaterial", "dsseEnvelope", "critical")
STATEMENT = ("_type", "subject", "predicateType", "predicate", "optional")


@given(st.dictionaries(st.sampled_from(MEMBERS + STATEMENT), JSON, max_size=8))
def test_no_json_makes_the_reading_fail(document: dict[str, object]) -> None:
    known = {"_type": "https://in-toto.io/Statement/v1", "mediaType": bundle.MEDIA_TYPE, **document}
    for kind in (claim.SIMPLE_SIGNING, dsse.MEDIA_TYPE, bundle.MEDIA_TYPE, IN_TOTO):
        for content in (document, known):
            raw = json.dumps(content).encode()
            piece = of_layer(layer(kind, raw, {SIGNATURE: "AAAA"}), raw, on=IMAGE, form=SIG_TAG)
            assert not judge([piece], IMAGE, Wish((PUBLIC,))).accepted


def test_a_bundle_is_called_one_wherever_it_was_met() -> None:
    assert read(bundled(), SIG_TAG).form == BUNDLE


def test_a_statement_about_nothing_is_read_and_convinces_nobody() -> None:
    """BuildKit's, of an image without a name."""
    document = json.loads(claim.statement(IMAGE, "app", TYPE, {}))
    raw = json.dumps({**document, "subject": None}).encode()
    piece = read((layer(IN_TOTO, raw), raw))
    assert piece.claim is not None
    assert piece.claim.predicate_type == TYPE
    sealed = dsse.dump(dsse.seal(raw, IN_TOTO, [KEY]))
    verdict = judge([read((layer(dsse.MEDIA_TYPE, sealed), sealed))], IMAGE, Wish((PUBLIC,), predicate_type=TYPE))
    assert verdict.reason.endswith(f"it is about nothing, and not about {IMAGE}")


def test_a_verdict_over_several_names_their_number_and_type() -> None:
    data = claim.statement(IMAGE, "app", TYPE, {})
    pieces = [read((layer(IN_TOTO, data), data)), read(enveloped(SECOND))]
    reason = judge(pieces, IMAGE, Wish((PUBLIC,), predicate_type=TYPE)).reason
    assert reason.startswith(f"none of 2 attestations of type {TYPE} counts: nobody signed it; ")
