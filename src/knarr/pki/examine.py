"""Dial a TLS server: what it shows, and whether given CAs make it believed. OpenSSL judges, as it does for others.

Spec: RFC 8446; the words for failures are those of X509_verify_cert_error_string(3).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

from cryptography import x509

from knarr.errors import RegistryError
from knarr.pki.names import of_certificate
from knarr.record import record

_DIAL_S = 10.0
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


@record
class ShownCertificate:
    """One certificate of a chain, in words."""

    subject: str
    issuer: str
    not_before: str  # UTC, to the minute
    not_after: str
    names: tuple[str, ...]


@record
class Shown:
    """What a server shows to anybody."""

    host: str
    port: int
    protocol: str  # "TLSv1.3"
    chain: tuple[ShownCertificate, ...]  # as it was sent, the server's own first


def look(host: str, port: int) -> Shown:
    """Shake hands without believing anything.

    Raises:
        RegistryError: nobody answers there, or not with TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _dial(host, port) as plain, context.wrap_socket(plain, server_hostname=host) as secured:
            chain = tuple(map(_words, _sent(secured)))
            return Shown(host, port, secured.version() or "TLS", chain)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise RegistryError(f"{host}:{port} does not speak TLS: {reason}") from error
    except OSError as error:
        raise RegistryError(f"{host}:{port}: {error.strerror or error}") from error


def verify(host: str, port: int, cas: Sequence[str], *, with_system: bool) -> str:
    """Why a client that trusts the PEM files `cas` (and the system's CAs) would hang up; "" if it would not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        for path in cas:
            context.load_verify_locations(path)
        if with_system:
            _trust_system(context)
    except (OSError, ssl.SSLError) as error:
        return f"{cas[0] if cas else 'the system'}: {getattr(error, 'reason', None) or error.strerror or 'not PEM'}"
    try:
        with _dial(host, port) as plain, context.wrap_socket(plain, server_hostname=host):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return (error.reason or str(error)).replace("_", " ").lower()
    except OSError as error:
        return str(error.strerror or error)


def _dial(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), timeout=_DIAL_S)


def _trust_system(context: ssl.SSLContext) -> None:
    context.set_default_verify_paths()
    for path in _BUNDLES:
        try:
            context.load_verify_locations(path)
        except OSError:
            continue
        return


def _sent(secured: ssl.SSLSocket) -> list[x509.Certificate]:
    """The chain as the server sent it. Python has it in public only since 3.13; below, the object under the socket."""
    public = getattr(secured, "get_unverified_chain", None)
    below = getattr(getattr(secured, "_sslobj", None), "get_unverified_chain", None)
    sent = public() if public is not None else below() if below is not None else None
    if sent is None:
        own = secured.getpeercert(binary_form=True)
        return [x509.load_der_x509_certificate(own)] if own else []
    ders = [one if isinstance(one, bytes) else ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in sent]
    return [x509.load_der_x509_certificate(der) for der in ders]


def _words(certificate: x509.Certificate) -> ShownCertificate:
    form = "%Y-%m-%d %H:%M"
    return ShownCertificate(
        certificate.subject.rfc4514_string() or "nobody",
        certificate.issuer.rfc4514_string() or "nobody",
        certificate.not_valid_before_utc.strftime(form),
        certificate.not_valid_after_utc.strftime(form),
        tuple(of_certificate(certificate)),
    )
