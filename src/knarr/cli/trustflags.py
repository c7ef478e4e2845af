"""Whom a command line trusts: keys and identities, and the policy of `--verify` for commands that use images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.cosignflags import annotation_words
from knarr.cli.flags import Flag, Kind, Parsed
from knarr.errors import UsageError
from knarr.image.spot import ARCHIVES, LAYOUT, Spot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knarr.attest.judge import Wish
    from knarr.attest.keyless import Keyless
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.reference import Reference
    from knarr.trust.gather import Place
    from knarr.trust.guard import Guard

VERIFY = "KNARR_VERIFY"
VERIFY_FLAG = Flag(
    "verify", Kind.TEXT, "FILE", f"refuse images that this trust policy does not let pass (default: ${VERIFY}; off)"
)
TRUST_FLAGS = (
    Flag(
        "key",
        Kind.LIST,
        "FILE",
        "a public key, or a certificate with one, in PEM form; a file or env://NAME",
        short="k",
    ),
    Flag("certificate-identity", Kind.TEXT, "TEXT", "who may have signed, as a certificate names them"),
    Flag("certificate-identity-regexp", Kind.TEXT, "PATTERN", "the same, as a pattern for the whole text"),
    Flag("certificate-oidc-issuer", Kind.TEXT, "URL", "who told the authority of them"),
    Flag("certificate-oidc-issuer-regexp", Kind.TEXT, "PATTERN", "the same, as a pattern for the whole text"),
    Flag("trusted-root", Kind.TEXT, "FILE", "authorities and logs behind certificates: sigstore's trusted_root.json"),
    Flag("threshold", Kind.TEXT, "N", "how many of the keys must have signed (default: 1)"),
    Flag("annotation", Kind.LIST, "KEY=VALUE", "the signature must say this", short="a"),
)


def wish_of(given: Parsed, *, predicate_type: str | None = None) -> Wish:
    """What `TRUST_FLAGS` ask for.

    Raises:
        UsageError: they name nobody, or a file that cannot be used.
    """
    from knarr.attest.judge import Wish
    from knarr.cli.signkeys import public_keys
    from knarr.trust.signing import annotations_of

    keys, keyless = public_keys(given.list("key")), _keyless(given)
    if not keys and keyless is None:
        raise UsageError(
            "nobody is named who is trusted",
            hint="give --key FILE, or --certificate-identity and --certificate-oidc-issuer with --trusted-root",
        )
    return Wish(
        keys,
        keyless,
        annotations_of(annotation_words(given)),
        threshold=_threshold(given),
        predicate_type=predicate_type,
    )


def _threshold(given: Parsed) -> int:
    text = given.text("threshold", "1")
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 100):
        raise UsageError(f"--threshold {text}: must be a number from 1 to 100")
    return int(text)


def _keyless(given: Parsed) -> Keyless | None:
    names = ("certificate-identity", "certificate-identity-regexp", "certificate-oidc-issuer")
    subject, subjects, issuer, issuers = (given.text(name) for name in (*names, f"{names[2]}-regexp"))
    root = given.text("trusted-root")
    if not any((subject, subjects, issuer, issuers, root)):
        return None
    if not (subject or subjects) or not (issuer or issuers) or not root:
        raise UsageError(
            "certificates need who, told by whom, and what vouches for it",
            hint="give --certificate-identity, --certificate-oidc-issuer and --trusted-root together",
        )
    from knarr.attest.keyless import Identity, Keyless
    from knarr.trust.policyfile import check_pattern, read_file

    for pattern in (subjects, issuers):
        check_pattern(pattern, "command line")
    text = read_file(Path(root)).decode("utf-8", "replace")
    return Keyless(text, (Identity(subject, subjects, issuer, issuers),), root)


def guard_of(given: Parsed, environ: Mapping[str, str] = os.environ) -> Guard | None:
    """The policy that `--verify` or the environment names; None: images are used as they are.

    Raises:
        UsageError: the policy cannot be used.
    """
    from knarr.config import trust_policy

    path = trust_policy(given.text("verify", environ.get(VERIFY, "")))
    if not path:
        return None
    from knarr.trust.guard import Guard
    from knarr.trust.policyfile import read

    return Guard(read(Path(path)))


def check_spot(guard: Guard | None, place: Place, root: Descriptor, where: Spot) -> None:
    """Hold an image that a command line named against the policy.

    Raises:
        Untrusted: the policy refuses it.
    """
    if guard is not None:
        guard.check(place, root, *named(where))


def named(where: Spot) -> tuple[str, Reference | str]:
    """Transport and name of an image, as policies speak of them. The store's are called as where they came from."""
    if where.reference is not None:
        return "docker", where.reference
    return (where.kind if where.kind in (LAYOUT, *ARCHIVES) else LAYOUT), where.path
