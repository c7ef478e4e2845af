"""What went wrong with a registry, as an error a person can act on."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from knarr.errors import RegistryError
from knarr.remote.url import Origin
from knarr.remote.wire import Answer, Cut, Malformed

_TEMPORARY = frozenset((408, 429, 500, 502, 503, 504))
_MAX_ERROR_BYTES = 16 << 10
_MEANING = {
    401: "login required, or the login is wrong",
    403: "access denied",
    404: "not found",
    408: "the registry gave up waiting for the request",
    413: "the registry, or a proxy before it, does not take so large a body",
    429: "too many requests",
    500: "internal error of the registry",
    502: "bad gateway: the registry behind its proxy does not answer",
    503: "the registry is not available",
    504: "gateway time-out: the registry behind its proxy does not answer",
}
_LATER = "try again later; the registry's own log says why"
_WAY_OUT = {
    413: "raise the limit of the proxy (nginx: client_max_body_size), or make smaller layers",
    429: "wait a while; whoever has logged in often has a higher limit",
    500: _LATER,
    502: _LATER,
    503: _LATER,
    504: _LATER,
}
_UNSTEADY = "try again; if it happens every time, look at what is between: a proxy, a firewall, its time limits"


def from_answer(answer: Answer, host: str, what: str) -> RegistryError:
    """The error for an answer that is not what `what` ("push of blob sha256:…") wanted. Reads its body."""
    codes, detail = read_errors(answer)
    said = f": {detail}" if detail else ""
    meaning = _MEANING.get(answer.status, answer.reason.lower() or "unexpected answer")
    return RegistryError(
        f"{what}: {host} answered {answer.status}, {meaning}{said}",
        status=answer.status,
        codes=codes,
        temporary=answer.status in _TEMPORARY,
        hint=_WAY_OUT.get(answer.status, ""),
    )


def read_errors(answer: Answer) -> tuple[tuple[str, ...], str]:
    """The codes and the text of an error body; a body of another form gives its first line.

    Spec: distribution-spec v1.1, "Error Codes".
    """
    try:
        raw = b"".join(iter(lambda: answer.read(_MAX_ERROR_BYTES), b"")) if answer.length <= _MAX_ERROR_BYTES else b""
    except (OSError, Malformed):
        return (), ""
    if raw[:1] != b"{":
        first = raw.decode(errors="replace").strip().partition("\n")[0]
        return (), "" if first.startswith("<") else _printable(first)
    import json

    try:
        document = json.loads(raw)
    except ValueError:
        return (), ""
    return _codes(document)


def _codes(document: object) -> tuple[tuple[str, ...], str]:
    if not isinstance(document, Mapping):
        return (), ""
    errors = document.get("errors")
    if not isinstance(errors, list):
        # Token servers answer {"details": …}, {"message": …} or OAuth's {"error_description": …}.
        words = (document.get(key) for key in ("details", "message", "error_description", "error"))
        return (), _printable(next((str(word) for word in words if word), ""))
    items = [item for item in errors if isinstance(item, Mapping)]
    codes = tuple(str(item.get("code", "UNKNOWN")) for item in items)
    texts = [f"{item.get('code', 'UNKNOWN')} ({item.get('message', '')})" for item in items]
    return codes, _printable("; ".join(texts))


def _printable(text: str) -> str:
    """One line of at most 300 characters, without control characters that could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]


def from_os_error(error: OSError | Malformed, origin: Origin, what: str, *, timeout_s: float) -> RegistryError:
    """The error for a connection that could not be made or broke."""
    host = origin.netloc
    if isinstance(error, Malformed):
        return RegistryError(
            f"{what}: {host} does not answer in HTTP: {error}",
            hint="is it a registry, and does it want https?" if origin.scheme == "http" else "",
        )
    if error.__class__.__module__ == "ssl":
        from knarr.remote import tls

        return tls.explain_broken(error, host, what)
    if isinstance(error, socket.gaierror):
        return RegistryError(
            f"{what}: the name {origin.host!r} has no address ({error.strerror})",
            temporary=error.errno == socket.EAI_AGAIN,
            hint="check the name, and this machine's DNS",
        )
    if isinstance(error, TimeoutError):
        return RegistryError(f"{what}: {host} did not answer for {timeout_s:g} s", temporary=True, hint=_UNSTEADY)
    if isinstance(error, ConnectionRefusedError):
        return RegistryError(
            f"{what}: nothing listens at {host}", hint="is the registry running, and is the port right?"
        )
    if isinstance(error, Cut):
        # A server of TLS that is spoken to without ends the connection in silence.
        plain = origin.scheme == "http" and not error.started
        hint = _wants_tls(host) if plain else _UNSTEADY
        return RegistryError(f"{what}: {host} broke off: {error}", temporary=True, hint=hint)
    if isinstance(error, ConnectionError):
        hint = _wants_tls(host) if origin.scheme == "http" else _UNSTEADY
        return RegistryError(
            f"{what}: {host} closed the connection ({error.strerror or error})", temporary=True, hint=hint
        )
    return RegistryError(f"{what}: {host} cannot be reached: {error.strerror or error}")


def _wants_tls(host: str) -> str:
    return (
        f"it was asked in plain HTTP; does it want https? A CA for it makes that known: knarr pki trust install {host}"
    )
