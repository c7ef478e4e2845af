"""Certificates from a mount: a directory of PEM files whose authorities every program in the node shall believe.

The system's bundle and they become one file, which is mounted over the bundle:
Go's programs, git, curl and Python all read that, and the image may be read-only.
"""

from __future__ import annotations

import os
from pathlib import Path

from knarr import linux
from knarr.errors import UsageError

PLACE = Path("/etc/knarr/ca")  # where a ConfigMap or a Secret is mounted
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def certificates(place: Path) -> list[Path]:
    """The files in `place` that are to hold certificates. Kubernetes' own links (..data) are no files of the user's."""
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if path.suffix in (".crt", ".pem", ".cer") and path.is_file())


def bundle(files: list[Path], system: bytes) -> bytes:
    """The system's certificates, and those of `files`.

    Raises:
        UsageError: a file has none, or a private key.
    """
    parts = [system]
    for file in files:
        try:
            text = file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}") from error
        if b"PRIVATE KEY-----" in text:
            raise UsageError(f"{file}: holds a private key", hint="mount the authority's certificate alone")
        found = text.split(_BEGIN)[1:]
        if not found or not all(_END in each for each in found):
            raise UsageError(f"{file}: no certificate in PEM form", hint="-----BEGIN CERTIFICATE----- … in each file")
        parts += [_BEGIN + each.partition(_END)[0] + _END + b"\n" for each in found]
    return b"".join(part if part.endswith(b"\n") or not part else part + b"\n" for part in parts)


def install(place: Path = PLACE, target: Path = BUNDLE, work: Path = Path("/run/knarr/node")) -> list[Path]:
    """Have the certificates in `place` believed; gives the files.

    Raises:
        UsageError: one of them is none.
        OSError: nothing can be mounted or written.
    """
    files = certificates(place)
    if files:
        whole = bundle(files, target.read_bytes() if target.exists() else b"")
        fresh = work / "ca-certificates.crt"
        fresh.write_bytes(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        linux.mount(os.fspath(fresh), os.fspath(target), "", linux.MS_BIND)
    return files
