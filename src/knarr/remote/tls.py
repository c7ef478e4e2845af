"""TLS contexts from trust settings, and what is wrong with a certificate, said so that it can be mended.

Reading the system's CA bundle takes 30 ms, its hashed directory none: contexts
start with the directory, and only a certificate that it cannot explain makes us
read the bundle as well.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

from knarr.errors import RegistryError, UsageError
from knarr.remote.trust import NotTls, Trust

BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_DIRECTORY = "/etc/ssl/certs"
# Codes of X509_verify_cert (openssl x509_vfy.h).
_UNKNOWN_ISSUER = frozenset((2, 18, 19, 20, 21))
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = frozenset((62, 64))  # host name, IP address


_contexts: dict[tuple[object, ...], ssl.SSLContext] = {}


def context(trust: Trust, *, whole_bundle: bool = False) -> ssl.SSLContext:
    """The context for `trust`, made once per process as long as its files stay the same.

    Raises:
        UsageError: a file cannot be read or is not PEM.
    """
    key = (
        trust.ca,
        trust.client,
        trust.verify,
        whole_bundle,
        *map(_mtime, trust.ca),
        *(_mtime(c) for c, _ in trust.client),
    )
    found = _contexts.get(key)
    if found is None:
        found = _contexts[key] = _make(trust, whole_bundle=whole_bundle)
    return found


def may_need_bundle(error: ssl.SSLCertVerificationError) -> bool:
    """Whether the CA that is missing may stand in the bundle and not in the hashed directory."""
    return error.verify_code in _UNKNOWN_ISSUER


def explain(error: ssl.SSLError, host: str, netloc: str, trust: Trust, shown: dict[str, Any]) -> RegistryError:
    """The clear form of a failed handshake; `shown` is the peer's certificate as far as it could be read."""
    about = {"registry": netloc}
    if not isinstance(error, ssl.SSLCertVerificationError):
        return _explain_protocol(error, netloc)
    code = error.verify_code
    if code in _UNKNOWN_ISSUER:
        issuer = name_of(shown.get("issuer")) or "an unknown authority"
        looked = ", ".join(("the system's CAs", *trust.looked_in))
        place = trust.looked_in[0] if trust.looked_in else f"/etc/knarr/certs.d/{netloc}"
        return RegistryError(
            f"the certificate of {netloc} is signed by {issuer!r}, which is not trusted; looked in {looked}",
            hint=f"put the CA's certificate into {place}/ca.crt",
        )
    if code == _EXPIRED:
        until = shown.get("notAfter", "")
        return RegistryError(
            f"the certificate of {netloc} has expired" + (f" (valid until {until})" if until else ""),
            hint="renew the registry's certificate, or check this machine's clock",
            context=about,
        )
    if code == _NOT_YET_VALID:
        return RegistryError(f"the certificate of {netloc} is not valid yet", hint="check this machine's clock")
    if code in _WRONG_NAME:
        names = ", ".join(str(name) for _, name in shown.get("subjectAltName", ())) or "no name at all"
        return RegistryError(
            f"the certificate of {netloc} is not made for {host!r}: it names {names}",
            hint="ask for the registry by a name in its certificate, or have the certificate made anew",
        )
    return RegistryError(f"the certificate of {netloc} is not accepted: {error.verify_message}")


def explain_broken(error: OSError, netloc: str, what: str) -> RegistryError:
    """The clear form of a TLS error after the handshake (TLS 1.3 refuses a client certificate only then)."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        return RegistryError(f"{what}: {netloc} closed the connection", temporary=True)
    return _explain_protocol(error, netloc)


def name_of(name: Any) -> str:
    """The common name of an X.509 name as `getpeercert` gives it, else its organisation."""
    parts = {key: value for rdn in name or () for key, value in rdn}
    return str(parts.get("commonName") or parts.get("organizationName") or "")


def _explain_protocol(error: ssl.SSLError, netloc: str) -> RegistryError:
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return NotTls(
            f"{netloc} does not speak TLS",
            hint=f'if plain HTTP is meant, write server = "http://{netloc}" into the hosts.toml of {netloc}',
        )
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "BAD_CERTIFICATE" in reason:
        return RegistryError(
            f"{netloc} refused the TLS connection: {reason.replace('_', ' ').lower()}",
            hint=f"if it wants a client certificate, put client.cert and client.key into /etc/knarr/certs.d/{netloc}/",
        )
    return RegistryError(f"TLS with {netloc} failed: {reason.replace('_', ' ').lower()}")


def _make(trust: Trust, *, whole_bundle: bool) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    if not trust.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        _trust_system(made, whole_bundle=whole_bundle)
    for path in trust.ca:
        _load(made.load_verify_locations, path, "CA certificate")
    for certificate, key in trust.client:
        _load(made.load_cert_chain, certificate, "client certificate", key or None)
    return made


def _trust_system(made: ssl.SSLContext, *, whole_bundle: bool) -> None:
    if whole_bundle:
        made.set_default_verify_paths()  # OpenSSL's own, and SSL_CERT_FILE and SSL_CERT_DIR: added, as in Go
        for path in BUNDLES:
            if os.path.exists(path):
                made.load_verify_locations(cafile=path)
                break
    else:
        made.load_verify_locations(capath=_DIRECTORY)


def _load(load: Any, path: str, what: str, *more: str | None) -> None:
    try:
        load(path, *more)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or "not PEM"
        raise UsageError(f"{what} {path}: {str(reason).replace('_', ' ').lower()}") from error


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
