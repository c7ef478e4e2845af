"""Signatures of commits and tags: who signed what a repository's ref leads to, by OpenPGP or by an ssh key.

git signs the object without its signature: of a commit that is a header, of a tag its end.

Spec: git's Documentation/gitformat-signature; BuildKit's source/git and util/gitutil/gitsign at v0.33.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from knarr.errors import KnarrError, UsageError
from knarr.ops import pgp
from knarr.record import record

_PGP, _SSH = b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN SSH SIGNATURE-----"
_HEADER = b"gpgsig "  # of ssh keys as well
_KINDS = ("ssh-", "ecdsa-", "sk-")  # what a public key in the format of authorized_keys begins with


@record
class Signers:
    """Whose signature a repository needs: armored OpenPGP keys, or ssh keys a line each."""

    keys: str
    rejects_expired: bool = False
    wants_tag: bool = False  # the commit's own signature is not enough
    ignores_tag: bool = False


def signers_of(attrs: Mapping[str, str]) -> Signers | None:
    """What a definition says; None: nothing has to be signed.

    Raises:
        UsageError: it names no key.
    """
    if not any(name.startswith("git.sig.") for name in attrs):
        return None
    if not attrs.get("git.sig.pubkey"):
        raise UsageError("a signature of a repository is checked with a public key: git.sig.pubkey")
    names = ("rejectexpired", "requiresignedtag", "ignoresignedtag")
    return Signers(attrs["git.sig.pubkey"], *(attrs.get(f"git.sig.{name}") == "true" for name in names))


def verify(signers: Signers, commit: bytes, tag: bytes, ids: Collection[str]) -> None:
    """Check that one of `signers` has signed the tag object, or the commit where there is none that will do.

    `ids` are those that the ref led to: of the commit, or of a tag object, which says what it is about.

    Raises:
        KnarrError: nobody of them has.
    """
    doubt: KnarrError | None = None
    if tag:
        _check_id(b"tag", tag, ids)
        ids = {*ids, tag.partition(b"\n")[0].removeprefix(b"object ").decode(errors="replace")}
    if tag and not signers.ignores_tag:
        start = max(tag.rfind(b"\n" + mark) for mark in (_PGP, _SSH)) + 1
        try:
            return _check(signers, "the tag", tag[:start] if start else tag, tag[start:] if start else b"")
        except KnarrError as error:
            doubt = error
    if signers.wants_tag:
        raise doubt or KnarrError("signed tag required but no signed tag found")  # BuildKit's words
    _check_id(b"commit", commit, ids)
    return _check(signers, "the commit", *_apart(commit))


def _apart(commit: bytes) -> tuple[bytes, bytes]:
    """(what was signed, its signature)."""
    head, gap, body = commit.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] = []
    inside = False
    for line in head.split(b"\n"):
        inside = line.startswith(_HEADER) or (inside and line.startswith(b" "))
        if inside:
            signature.append(line.removeprefix(_HEADER).removeprefix(b" "))
        else:
            kept.append(line)
    return b"\n".join(kept) + gap + body, b"\n".join(signature) + b"\n" if signature else b""


def _check_id(kind: bytes, raw: bytes, ids: Collection[str]) -> None:
    whole = b"%s %d\0%s" % (kind, len(raw), raw)
    if not {hashlib.sha1(whole, usedforsecurity=False).hexdigest(), hashlib.sha256(whole).hexdigest()} & {*ids}:
        raise KnarrError(f"the {kind.decode()} that was fetched is not the one that the ref led to", hint="build again")


def _check(signers: Signers, what: str, data: bytes, signature: bytes) -> None:
    if not signature:
        raise KnarrError(f"{what} is not signed", hint="git object is not signed: git commit -S, git tag -s")
    with tempfile.TemporaryDirectory(prefix="knarr-git-") as place:
        signed = Path(place, "data")
        signed.write_bytes(data)
        if signature.lstrip().startswith(_PGP):
            pgp.verify(signed, signature, signers.keys.encode(), rejects_expired=signers.rejects_expired)
        else:
            _by_ssh(Path(place), signed, signature, signers.keys)


def _by_ssh(place: Path, data: Path, signature: bytes, keys: str) -> None:
    lines = [line.strip() for line in keys.splitlines() if line.strip().startswith(_KINDS)]
    if not lines:
        raise UsageError("failed to parse ssh public key", hint="a line such as: ssh-ed25519 AAAA…")
    allowed, made = place / "allowed", place / "signature"
    allowed.write_text("".join(f'signer namespaces="git" {line}\n' for line in lines))
    made.write_bytes(signature)
    words = ["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", "signer", "-n", "git", "-s", str(made)]
    try:
        with data.open("rb") as stdin:
            done = subprocess.run(words, stdin=stdin, capture_output=True, timeout=pgp.LONG_S, check=False)
    except FileNotFoundError:
        raise KnarrError("ssh-keygen is not installed", hint="apt-get install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise KnarrError(f"ssh-keygen has not checked the signature within {pgp.LONG_S:.0f} seconds") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise KnarrError(f"failed to verify ssh signature: {said[-1] if said else 'no reason was given'}")
