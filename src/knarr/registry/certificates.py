"""The server's certificate, read again when its files change: connections that begin afterwards see the new one.

Files that do not fit together (one was replaced, the other not yet) change nothing.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

from knarr.errors import UsageError
from knarr.record import record

_TICK_S = 1.0


@record
class TlsFiles:
    """PEM files. With `client_ca`, clients may show a certificate, or must."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_required: bool = False


class Certificates:
    """`context` is what the server listens with; each handshake uses the newest files."""

    def __init__(self, files: TlsFiles) -> None:
        """Load the files.

        Raises:
            UsageError: they cannot be read, or do not belong together.
        """
        self._files = files
        self._stamp = self._stamps()
        self._current = self._load()
        self.context = self._load()
        self.context.sni_callback = self._choose

    async def watch(self, tell: Callable[[str], object]) -> None:
        """Look after the files until cancelled; `tell` is given a line for each change."""
        while True:
            await asyncio.sleep(_TICK_S)
            stamp = self._stamps()
            if stamp == self._stamp:
                continue
            try:
                self._current = self._load()
            except UsageError as error:
                tell(f"the changed certificate is not used: {error.message}")
            else:
                tell(f"certificate {self._files.certificate} was read again")
            self._stamp = stamp

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        files = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        file = files.certificate
        try:
            context.load_cert_chain(files.certificate, files.key)
            if files.client_ca is not None:
                file = files.client_ca
                context.load_verify_locations(files.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED if files.client_required else ssl.CERT_OPTIONAL
        except ssl.SSLError as error:
            raise UsageError(
                f"{file}: {error.reason or error}", hint="the key must be the certificate's own, both in PEM"
            ) from error
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}", hint=f"the key is {files.key}") from error
        return context

    def _stamps(self) -> tuple[object, ...]:
        stamps = []
        for file in (self._files.certificate, self._files.key, self._files.client_ca):
            if file is not None:
                try:
                    known = os.stat(file)
                    stamps.append((known.st_mtime_ns, known.st_ino, known.st_size))
                except OSError:
                    stamps.append((0, 0, 0))
        return tuple(stamps)
