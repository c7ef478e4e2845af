"""Certificates that are believed in a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.node import trust

ONE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_files_of_a_kubernetes_mount_are_found_once(tmp_path: Path) -> None:
    (tmp_path / "..2026_01_01").mkdir()
    (tmp_path / "..2026_01_01/corp.crt").write_bytes(ONE)
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "corp.crt").symlink_to("..data/corp.crt")
    (tmp_path / "README").write_text("no certificate")
    assert [path.name for path in trust.certificates(tmp_path)] == ["corp.crt"]


def test_no_mount_is_no_failure(tmp_path: Path) -> None:
    assert trust.certificates(tmp_path / "none") == []


def test_text_around_certificates_stays_out_of_the_bundle(tmp_path: Path) -> None:
    file = tmp_path / "two.pem"
    file.write_bytes(b"subject: corp\n" + ONE + b"issuer\n" + ONE)
    assert trust.bundle([file], b"SYSTEM") == b"SYSTEM\n" + ONE + ONE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no certificate in PEM form"),
        (b"\x30\x82\x01\x00", "no certificate in PEM form"),
        (ONE[:40], "no certificate in PEM form"),
        (ONE + b"-----BEGIN RSA PRIVATE KEY-----\n", "holds a private key"),
    ],
)
def test_what_is_no_certificate_is_refused_by_name(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "bad.crt"
    file.write_bytes(text)
    with pytest.raises(UsageError, match=rf"bad\.crt: {words}"):
        trust.bundle([file], b"")
