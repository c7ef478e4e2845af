"""The keys that a command line names: files, tokens, and the passphrase that opens one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.attest.keylesssign import KeylessSigner
    from knarr.attest.keys import PublicKey, Signer

PASSPHRASE = "COSIGN_PASSWORD"
_ELSEWHERE = ("awskms", "azurekms", "gcpkms", "hashivault", "k8s", "gitlab", "github")  # cosign's
KEY_FLAG = Flag("key", Kind.LIST, "KEY", "a private key: a PEM file, env://NAME, or pkcs11:URI", short="k")
PASSPHRASE_FLAG = Flag(
    "passphrase-file", Kind.TEXT, "FILE", f"the passphrase of the key (else ${PASSPHRASE}, or it is asked for)"
)


KEYLESS_FLAGS = (
    Flag("keyless", Kind.SWITCH, "", "sign as an identity, with sigstore's services, in a bundle"),
    Flag(
        "identity-token", Kind.TEXT, "FILE", "who signs: an OpenID token (else $SIGSTORE_ID_TOKEN, or a CI service's)"
    ),
    Flag("trust-config", Kind.TEXT, "FILE", "services of your own: sigstore's client trust configuration"),
)


def keyless(given: Parsed) -> KeylessSigner | None:
    """The identity of `--keyless`; None: it was not asked for.

    Raises:
        UsageError: it does not go with the other flags, or there is no token.
        KnarrError: the services cannot be used.
    """
    if not given.switch("keyless"):
        for name in ("identity-token", "trust-config"):
            if given.text(name):
                raise UsageError(f"--{name} is for --keyless")
        return None
    if given.list("key"):
        raise UsageError("--key and --keyless exclude each other", hint="sign twice, once with each")
    if given.text("form", "bundle") != "bundle":
        raise UsageError("--keyless signs in bundles only", hint="leave out --form")
    from knarr.attest.keylesssign import KeylessSigner

    token, config = (given.text(name) for name in ("identity-token", "trust-config"))
    return KeylessSigner.open(
        read_key_file(token).decode("utf-8", "replace") if token else "",
        read_key_file(config).decode("utf-8", "replace") if config else "",
    )


def signers(given: Parsed) -> tuple[Signer, ...]:
    """The private keys of `--key`, opened.

    Raises:
        UsageError: there is none, or one cannot be used.
        PassphraseWrong: one did not open.
    """
    words = given.list("key")
    if not words:
        raise UsageError(
            "a key is needed: --key FILE", hint="`knarr sign generate-key` makes one; the public half goes to others"
        )
    return tuple(_signer(word, given) for word in words)


def _signer(word: str, given: Parsed) -> Signer:
    if word.startswith("pkcs11:"):
        from knarr.attest.token import open_token_key

        return open_token_key(word)
    from knarr.attest.keyfile import read_private
    from knarr.attest.keys import PassphraseWrong

    data, asked = read_key_file(word), _given_passphrase(given)
    try:
        return read_private(data, asked, name=word)
    except PassphraseWrong:
        if asked is not None or not sys.stdin.isatty():
            raise
    from getpass import getpass

    return read_private(data, getpass(f"Passphrase of {word}: ").encode(), name=word)


def new_passphrase(given: Parsed, path: str) -> bytes:
    """The passphrase for a key that is being made.

    Raises:
        UsageError: none was given, and there is nobody to ask.
    """
    found = _given_passphrase(given)
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise UsageError(
            f"{path}: a passphrase is needed",
            hint=f"give --passphrase-file or ${PASSPHRASE}, or write the key unprotected with --no-passphrase",
        )
    from getpass import getpass

    first = getpass(f"Passphrase for {path}: ")
    if getpass("Again: ") != first:
        raise UsageError(f"{path}: the two passphrases differ")
    return first.encode()


def public_keys(words: tuple[str, ...]) -> tuple[PublicKey, ...]:
    """The public keys of PEM files.

    Raises:
        UsageError: a file is none, or cannot be read.
    """
    from knarr.attest.keys import PublicKey

    return tuple(PublicKey.parse(read_key_file(word), name=word) for word in words)


def read_key_file(path: str) -> bytes:
    """The content of a file, or of a variable (`env://NAME`, as cosign has it).

    Raises:
        UsageError: it cannot be read.
    """
    scheme, delimiter, name = path.partition("://")
    if delimiter and scheme == "env":
        if name not in os.environ:
            raise UsageError(f"{path}: the variable {name} is not set")
        return os.environ[name].encode()
    if delimiter and scheme in _ELSEWHERE:
        raise UsageError(f"{path}: keys are not taken from {scheme}", hint="use a file, env://NAME, or pkcs11:URI")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _given_passphrase(given: Parsed) -> bytes | None:
    path = given.text("passphrase-file")
    if path:
        return read_key_file(path).rstrip(b"\r\n")
    found = os.environ.get(PASSPHRASE)
    return None if found is None else found.encode()
