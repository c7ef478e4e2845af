"""`knarr sign generate-key`: a pair of keys, as cosign makes it."""

from __future__ import annotations

import os
from pathlib import Path

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.signkeys import PASSPHRASE_FLAG, new_passphrase
from knarr.errors import KnarrError, UsageError

FLAGS = (
    Flag("type", Kind.TEXT, "TYPE", "ecdsa-p256 (the default), ecdsa-p384, ecdsa-p521, ed25519, rsa-3072 …"),
    PASSPHRASE_FLAG,
    Flag("no-passphrase", Kind.SWITCH, "", "write the private key unprotected, as PKCS #8"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr sign generate-key --help` prints."""
    return (
        "Usage: knarr sign generate-key [OPTIONS] [PREFIX]\n\n"
        "Make a key for signing: PREFIX.key, which is secret, and PREFIX.pub for those who check. Default: knarr.\n"
        f"The private key is encrypted in cosign's form.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr sign generate-key ARGUMENTS`.

    Raises:
        KnarrError: a file is there already, or cannot be written.
    """
    from knarr.attest.keyfile import plain, seal
    from knarr.attest.keys import PublicKey, make

    given = parse(FLAGS, argv, command="knarr sign generate-key")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) > 1:
        raise UsageError("knarr sign generate-key takes one prefix", hint="see `knarr sign generate-key --help`")
    prefix = given.words[0] if given.words else "knarr"
    secret, public = f"{prefix}.key", f"{prefix}.pub"
    for path in (secret, public):
        if os.path.lexists(path):
            raise UsageError(f"{path}: is there already", hint="give another prefix, or take it away yourself")
    private = make(given.text("type", "ecdsa-p256"))
    data = plain(private) if given.switch("no-passphrase") else seal(private, new_passphrase(given, secret))
    key = PublicKey(private.public_key(), public)
    _write(secret, data, 0o600)
    _write(public, key.pem, 0o644)
    print(f"{secret}\n{public}  {key.kind}  sha256:{key.fingerprint}")
    return 0


def _write(path: str, data: bytes, mode: int) -> None:
    try:
        fd = os.open(Path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
    except OSError as error:
        raise KnarrError(f"{path}: {error.strerror}") from error
