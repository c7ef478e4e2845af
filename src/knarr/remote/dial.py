"""Open a socket to a host: address, proxy, TLS."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from knarr.errors import RegistryError
from knarr.remote import url
from knarr.remote.settings import Proxies, RegistrySettings
from knarr.remote.trust import Trust
from knarr.remote.url import Origin

if TYPE_CHECKING:
    import ssl

_PROBE_S = 5.0  # for the second look at a certificate that was refused


def dial(origin: Origin, trust: Trust | None, settings: RegistrySettings, *, timeout_s: float) -> socket.socket:
    """A connected socket to `origin`, through TLS when `trust` is given.

    Raises:
        OSError: no connection (`failure.from_os_error` explains it).
        RegistryError: the certificate, the TLS protocol or the proxy; explained.
    """
    if trust is None:
        return _connect(origin, settings, timeout_s)
    import ssl

    from knarr.remote import tls

    try:
        return _wrap(origin, tls.context(trust), settings, timeout_s)
    except ssl.SSLCertVerificationError as error:
        if not tls.may_need_bundle(error):
            raise tls.explain(error, origin.host, origin.netloc, trust, _look(origin, settings)) from error
    except ssl.SSLError as error:
        raise tls.explain(error, origin.host, origin.netloc, trust, {}) from error
    try:
        return _wrap(origin, tls.context(trust, whole_bundle=True), settings, timeout_s)
    except ssl.SSLError as error:
        raise tls.explain(error, origin.host, origin.netloc, trust, _look(origin, settings)) from error


def proxy_for(origin: Origin, proxies: Proxies) -> str:
    """The proxy's URL for `origin`, or nothing.

    NO_PROXY as Go's httpproxy reads it: `*`, names (with or without a leading
    dot) and what is below them, addresses, networks, each perhaps with a port.
    Loopback never goes through a proxy.
    """
    proxy = proxies.https if origin.scheme == "https" else proxies.http
    if not proxy or url.is_loopback(origin.host):
        return ""
    return "" if any(_spared(origin, entry) for entry in proxies.none) else proxy


def _spared(origin: Origin, entry: str) -> bool:
    if entry == "*":
        return True
    if "/" in entry or entry.count(":") > 1 or entry.replace(".", "").isdigit():
        import ipaddress

        try:
            return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, _, port = entry.partition(":")
    if port and port != str(origin.port):
        return False
    name = name.removeprefix("*")
    return origin.host.endswith(name if name.startswith(".") else "." + name) or origin.host == name


def _connect(origin: Origin, settings: RegistrySettings, timeout_s: float) -> socket.socket:
    proxy = proxy_for(origin, settings.proxies)
    if proxy:
        return _through_proxy(origin, proxy, settings, timeout_s)
    return _open(settings.addresses.get(origin.host, origin.host), origin.port, timeout_s)


def _open(host: str, port: int, timeout_s: float) -> socket.socket:
    # As bytes a name is looked up as it is; as text it goes through the idna codec, which takes 7 ms to import.
    name = host.encode() if host.isascii() else host
    sock = socket.create_connection((name, port), timeout_s)  # type: ignore[arg-type]  # the stubs know only text
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _through_proxy(origin: Origin, proxy: str, settings: RegistrySettings, timeout_s: float) -> socket.socket:
    """A tunnel by CONNECT; also for plain HTTP, so that the request on the wire is the same."""
    where = url.parse(proxy if "://" in proxy else "http://" + proxy).origin
    if where.scheme != "http":
        raise RegistryError(f"proxy {where}: only http:// proxies are supported", context={"registry": origin.netloc})
    sock = _open(where.host, where.port, timeout_s)
    try:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        head = f"CONNECT {host}:{origin.port} HTTP/1.1\r\nHost: {host}:{origin.port}\r\n{_proxy_login(proxy)}\r\n"
        sock.sendall(head.encode("latin-1"))
        status = _tunnel_status(sock)
        if status != 200:
            raise RegistryError(f"proxy {where} refused a tunnel to {origin.netloc}: {status}", status=status)
    except BaseException:
        sock.close()
        raise
    return sock


def _proxy_login(proxy: str) -> str:
    login, at, _ = proxy.partition("://")[2].rpartition("@")
    if not at:
        return ""
    from base64 import b64encode
    from urllib.parse import unquote

    return f"Proxy-Authorization: Basic {b64encode(unquote(login).encode()).decode()}\r\n"


def _tunnel_status(sock: socket.socket) -> int:
    # Byte by byte: what follows the blank line already belongs to TLS.
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte or len(head) > 16 << 10:
            raise ConnectionResetError("the proxy closed the connection")
        head += byte
    words = head.split(None, 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _wrap(origin: Origin, context: ssl.SSLContext, settings: RegistrySettings, timeout_s: float) -> socket.socket:
    sock = _connect(origin, settings, timeout_s)
    try:
        return context.wrap_socket(sock, server_hostname=origin.host)
    except BaseException:
        sock.close()
        raise


def _look(origin: Origin, settings: RegistrySettings) -> dict[str, Any]:
    """The certificate that was refused, as far as it can be had: only for the message.

    The `ssl` module decodes a certificate only when it was verified. So we fetch
    it unverified, then connect again trusting exactly that certificate.
    """
    import ssl

    try:
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE
        with _wrap(origin, blind, settings, _PROBE_S) as sock:
            raw = sock.getpeercert(binary_form=True)  # type: ignore[attr-defined]  # an SSLSocket
        itself = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        itself.check_hostname = False
        itself.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        itself.load_verify_locations(cadata=raw)
        with _wrap(origin, itself, settings, _PROBE_S) as sock:
            return dict(sock.getpeercert() or {})  # type: ignore[attr-defined]
    except (OSError, RegistryError):
        return {}
