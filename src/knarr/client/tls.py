"""The certificates by which a builder and its client know each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import UsageError
from knarr.record import record

if TYPE_CHECKING:
    import ssl

    import grpc


@record
class Tls:
    """Files by path; "" is none. Without a `ca` the system's authorities are trusted."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""

    @property
    def given(self) -> bool:
        """Whether the connection is to be a TLS one."""
        return bool(self.ca or self.cert or self.server_name)

    def check(self) -> None:
        """See that the files go together and can be read.

        Raises:
            UsageError: they do not.
        """
        if bool(self.cert) != bool(self.key):
            raise UsageError("a client certificate needs its key, and a key its certificate", hint="give both")
        for path in filter(None, (self.ca, self.cert, self.key)):
            _bytes(path)

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel is opened with.

        Raises:
            UsageError: a file cannot be read.
        """
        import grpc

        return grpc.ssl_channel_credentials(
            _bytes(self.ca) if self.ca else None,
            _bytes(self.key) if self.key else None,
            _bytes(self.cert) if self.cert else None,
        )

    def context(self) -> ssl.SSLContext:
        """The same for a connection of our own, by which a failure is looked into.

        Raises:
            UsageError: the files are no certificates.
        """
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (self.ca, self.cert, self.key)))
            raise UsageError(f"{files}: no certificates in PEM, or a key of another certificate") from error
        context.set_alpn_protocols(["h2"])
        return context


def read_directory(path: str) -> Tls:
    """The files of a directory as buildctl's --tlsdir has them: ca.pem, cert.pem, key.pem.

    Raises:
        UsageError: it has none of them.
    """
    found = {name: str(file) if (file := Path(path, f"{name}.pem")).is_file() else "" for name in ("ca", "cert", "key")}
    if not any(found.values()):
        raise UsageError(f"{path}: has none of ca.pem, cert.pem and key.pem")
    return Tls(**found)


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
