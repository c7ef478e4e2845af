"""URLs as a registry client meets them: an origin and a target, joined and shown without secrets."""

from __future__ import annotations

from knarr.errors import RegistryError
from knarr.record import record

DEFAULT_PORT = {"http": 80, "https": 443}


@record
class Origin:
    """Who is spoken to. Credentials and trust never pass from one origin to another."""

    scheme: str  # http or https
    host: str  # lower case; an IPv6 address without its brackets
    port: int

    @property
    def netloc(self) -> str:
        """As the Host header says it: the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


@record
class Url:
    """An origin and what to ask it for: path and query, as they go on the wire."""

    origin: Origin
    target: str

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"

    @property
    def redacted(self) -> str:
        """For messages: the query is left out, since signed URLs and upload states carry secrets there."""
        path, mark, _ = self.target.partition("?")
        return f"{self.origin}{path}" + ("?…" if mark else "")


def parse(text: str) -> Url:
    """The URL `text`; user, password and fragment are dropped.

    Raises:
        RegistryError: not an absolute http or https URL.
    """
    scheme, sep, rest = text.strip().partition("://")
    scheme = scheme.lower()
    if not sep or scheme not in DEFAULT_PORT:
        raise RegistryError(f"{_brief(text)!r} is not an http or https URL")
    rest = rest.partition("#")[0]
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    host, port = split_host(rest[:end].rpartition("@")[2])
    target = rest[end:] or "/"
    if not host or not _is_clean(host + target):
        raise RegistryError(f"{_brief(text)!r} is not a usable URL")
    return Url(Origin(scheme, host, port or DEFAULT_PORT[scheme]), target if target[0] == "/" else "/" + target)


def split_host(netloc: str) -> tuple[str, int]:
    """`host[:port]` as a lower-case host without brackets, and the port or 0.

    Raises:
        RegistryError: a port that is not a number from 1 to 65535.
    """
    host, port = netloc, ""
    if netloc.startswith("["):
        host, _, after = netloc[1:].partition("]")
        port = after.removeprefix(":")
    elif netloc.count(":") == 1:
        host, _, port = netloc.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise RegistryError(f"{netloc!r}: the port must be a number from 1 to 65535")
    return host.lower(), int(port or 0)


def join(base: Url, location: str) -> Url:
    """Where a Location header leads; it may be absolute, or a path, or relative to `base`."""
    if "://" in location.partition("?")[0]:
        return parse(location)
    if location.startswith("//"):
        return parse(f"{base.origin.scheme}:{location}")
    location = location.partition("#")[0]
    if not _is_clean(location):
        raise RegistryError(f"{base.origin.netloc}: the registry redirects to an unusable address")
    if location.startswith("/"):
        return Url(base.origin, location)
    path = base.target.partition("?")[0]
    if location.startswith("?"):
        return Url(base.origin, path + location)
    return Url(base.origin, f"{path.rpartition('/')[0]}/{location}")


def with_query(target: str, query: str) -> str:
    """`target` with `query` (already encoded) added to what it has."""
    if not query:
        return target
    return f"{target}{'&' if '?' in target else '?'}{query}"


def is_loopback(host: str) -> bool:
    """Whether `host` (no port, no brackets) is this machine by its form alone; nothing is resolved."""
    named = host == "localhost" or host.endswith(".localhost") or host == "::1"
    return named or (host.startswith("127.") and host.replace(".", "").isdigit())


def _is_clean(target: str) -> bool:
    # A blank or a control character in a request line would start a second request.
    return target.isascii() and target.isprintable() and " " not in target


def _brief(text: str) -> str:
    return text.partition("?")[0][:200]
