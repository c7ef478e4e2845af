"""Signatures of identities, checked offline by the library `sigstore` against a trusted root in a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from knarr.attest import bundle, claim
from knarr.attest.evidence import BUNDLE, Evidence, of_layer
from knarr.attest.judge import Verdict, Wish, judge
from knarr.attest.keyless import Identity, Keyless
from knarr.errors import Unsupported, UsageError
from knarr.record import replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.mediatype import IN_TOTO

from .authority import Authority

IMAGE = Digest.of(b"image")
WHO, BY = "dev@corp.example", "https://login.corp.example"
STATEMENT = claim.signing_statement(IMAGE, "registry.example/app:1", {})


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def piece(raw: bytes) -> Evidence:
    layer = Descriptor(bundle.MEDIA_TYPE, Digest.of(raw), len(raw))
    return of_layer(layer, raw, on=IMAGE, form=BUNDLE)


def verdict(authority: Authority, raw: bytes, identity: Identity | None = None, root: str = "") -> Verdict:
    rules = Keyless(root or authority.trusted_root, (identity or Identity(WHO, issuer=BY),), "root.json")
    return judge([piece(raw)], IMAGE, Wish(keyless=rules))


@pytest.fixture(scope="module")
def signed(authority: Authority) -> bytes:
    return authority.bundle(STATEMENT, subject=WHO, issuer=BY)


def test_somebody_who_is_trusted_signed(authority: Authority, signed: bytes) -> None:
    found = verdict(authority, signed)
    assert found.reason == ""
    assert found.signers == (f"{WHO} ({BY})",)


@pytest.mark.parametrize(
    ("identity", "accepted"),
    [
        (Identity(subject_pattern=r".*@corp\.example", issuer_pattern="https://.*"), True),
        (Identity(subject_pattern="dev@corp", issuer=BY), False),
        (Identity("other@corp.example", issuer=BY), False),
        (Identity(WHO, issuer="https://login.other.example"), False),
        (Identity(), False),
    ],
)
def test_the_certificate_says_who(authority: Authority, signed: bytes, identity: Identity, accepted: bool) -> None:
    found = verdict(authority, signed, identity)
    assert found.accepted is accepted
    if not accepted:
        assert f"it is for {WHO} of {BY}" in found.reason


def test_a_signature_from_after_the_certificates_life_does_not_count(authority: Authority) -> None:
    raw = authority.bundle(STATEMENT, subject=WHO, issuer=BY, late=timedelta(hours=1))
    assert "its certificate does not hold" in verdict(authority, raw).reason


def test_another_authority_is_not_believed(authority: Authority, signed: bytes) -> None:
    found = verdict(authority, signed, root=Authority().trusted_root)
    assert "its certificate does not hold" in found.reason


def test_another_image_is_not_meant(authority: Authority) -> None:
    statement = claim.signing_statement(Digest.of(b"other"), "", {})
    raw = authority.bundle(statement, subject=WHO, issuer=BY)
    assert "it is about" in verdict(authority, raw).reason


def without(*path: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return change


def flipped(*path: str | int) -> Callable[[Any], None]:
    """One character of a base64 text becomes another."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        old = document[path[-1]]
        document[path[-1]] = old[:20] + ("A" if old[20] != "A" else "B") + old[21:]

    return change


ENTRY = ("verificationMaterial", "tlogEntries", 0)


@pytest.mark.parametrize(
    "change",
    [
        flipped("dsseEnvelope", "signatures", 0, "sig"),
        flipped("dsseEnvelope", "payload"),
        flipped("verificationMaterial", "certificate", "rawBytes"),
        flipped(*ENTRY, "inclusionPromise", "signedEntryTimestamp"),
        flipped(*ENTRY, "inclusionProof", "rootHash"),
        flipped(*ENTRY, "canonicalizedBody"),
        without(*ENTRY, "inclusionProof"),
        without("verificationMaterial", "tlogEntries", 0),
    ],
)
def test_what_was_changed_or_left_out_does_not_count(
    authority: Authority, signed: bytes, change: Callable[[Any], None]
) -> None:
    document = json.loads(signed)
    change(document)
    found = verdict(authority, json.dumps(document).encode())
    assert not found.accepted
    assert found.reason


@pytest.mark.parametrize("name", ["dsse_envelope", "dsseEnvelope"])
def test_a_bundle_that_reads_in_two_ways_does_not_count(authority: Authority, signed: bytes, name: str) -> None:
    """A genuine bundle of another image, with an envelope beside its own that is about ours."""
    other = authority.bundle(claim.signing_statement(Digest.of(b"other"), "", {}), subject=WHO, issuer=BY)
    ours = json.dumps(json.loads(signed)["dsseEnvelope"])
    for text in (
        other.decode().replace('"dsseEnvelope"', f'"{name}": {ours}, "dsseEnvelope"'),
        other.decode()[:-1] + f', "{name}": {ours}}}',
        other.decode().replace('"dsseEnvelope"', '"dsse_envelope"')[:-1] + f', "{name}": {ours}}}',
    ):
        assert not verdict(authority, text.encode()).accepted


def test_what_was_verified_must_be_what_was_read(authority: Authority, signed: bytes) -> None:
    """Whatever makes the library read another payload than we do."""
    other = claim.signing_statement(IMAGE, "registry.example/other:1", {})
    changed = replace(piece(signed), payload=other, claim=claim.read(other, IN_TOTO))
    rules = Keyless(authority.trusted_root, (Identity(WHO, issuer=BY),), "root.json")
    assert "is not what the bundle says" in judge([changed], IMAGE, Wish(keyless=rules)).reason


def test_a_key_alone_does_not_stand_for_an_identity(authority: Authority) -> None:
    from knarr.attest.keys import LocalKey, make

    raw = bundle.seal(STATEMENT, LocalKey(make("ecdsa-p256")))
    assert "a certificate is asked for" in verdict(authority, raw).reason


def test_a_trusted_root_that_is_none_is_told(authority: Authority, signed: bytes) -> None:
    for root in ("", "{}", "[]", '{"mediaType": "x"}'):
        rules = Keyless(root, (Identity(WHO, issuer=BY),), "root.json")
        with pytest.raises(UsageError, match=r"root\.json: not a trusted root"):
            judge([piece(signed)], IMAGE, Wish(keyless=rules))


def test_without_the_library_nothing_passes(
    authority: Authority, signed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sigstore.models", None)
    with pytest.raises(Unsupported, match="sigstore"):
        verdict(authority, signed)
