"""A private CA, made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Signs certificates of servers and clients."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.ca = directory / "ca.pem"
        self._make("req", "-x509", "-days", "30", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=A Test CA")

    def issue(self, name: str, *, file: str = "") -> tuple[Path, Path]:
        """Certificate and key for `name`, a host or a client."""
        stem = file or name
        self._make("req", "-keyout", f"{stem}.key", "-out", f"{stem}.csr", "-subj", f"/CN={name}")
        (self._directory / "ext").write_text(f"subjectAltName=DNS:{name},IP:127.0.0.1\n")
        sign = ["openssl", "x509", "-req", "-in", f"{stem}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        sign += ["-days", "20", "-extfile", "ext", "-out", f"{stem}.pem"]
        subprocess.run(sign, cwd=self._directory, check=True, capture_output=True)
        return self._directory / f"{stem}.pem", self._directory / f"{stem}.key"

    def _make(self, *words: str) -> None:
        command = ["openssl", words[0], "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *words[1:]]
        subprocess.run(command, cwd=self._directory, check=True, capture_output=True)
