"""The names a certificate is made for: `registry.corp.example`, `*.corp.example`, `10.0.0.7`, `spiffe://…`, an address.

    Names.parse(["registry.corp.example:5000", "10.0.0.7"]).dns  # ("registry.corp.example",)

Spec: RFC 5280, 4.2.1.6 (subjectAltName) and 4.2.1.10 (name constraints); RFC 6125, 6.4.3 (wildcards).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from cryptography import x509

from knarr.errors import UsageError
from knarr.record import record

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DNS = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_PORT = re.compile(r":\d{1,5}$")
_MAX_DNS = 253


@record
class Names:
    """Names by kind, each once, in the order they were given."""

    dns: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    uris: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()

    @staticmethod
    def parse(texts: Iterable[str]) -> Names:
        """Sort `texts` into kinds. A port behind a host or address is dropped: certificates have none.

        Raises:
            UsageError: a text that can be no name.
        """
        dns: dict[str, None] = {}
        addresses: dict[Address, None] = {}
        uris: dict[str, None] = {}
        emails: dict[str, None] = {}
        for text in texts:
            if "://" in text:
                uris[text] = None
            elif "@" in text:
                emails[text] = None
            elif (address := _address(text)) is not None:
                addresses[address] = None
            else:
                dns[_host(text)] = None
        return Names(tuple(dns), tuple(addresses), tuple(uris), tuple(emails))

    @property
    def first(self) -> str:
        """The name by which people call the certificate."""
        texts = (*self.dns, *map(str, self.addresses), *self.uris, *self.emails)
        return texts[0] if texts else ""

    @property
    def common_name(self) -> str:
        """For a subject. OpenSSL takes an address there for a host, and finds that it is not permitted."""
        return self.dns[0] if self.dns else f"host {self.first}" if self.first else ""

    def general(self) -> list[x509.GeneralName]:
        """As X.509 has them."""
        return [
            *map(x509.DNSName, self.dns),
            *map(x509.IPAddress, self.addresses),
            *map(x509.UniformResourceIdentifier, self.uris),
            *map(x509.RFC822Name, self.emails),
        ]

    def __iter__(self):  # type: ignore[no-untyped-def]  # of texts
        yield from (*self.dns, *map(str, self.addresses), *self.uris, *self.emails)


def of_certificate(certificate: x509.Certificate | x509.CertificateSigningRequest) -> Names:
    """The names in the subjectAltName of a certificate or a request."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names()
    return Names(
        tuple(names.get_values_for_type(x509.DNSName)),
        tuple(a for a in names.get_values_for_type(x509.IPAddress) if isinstance(a, IPv4Address | IPv6Address)),
        tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        tuple(names.get_values_for_type(x509.RFC822Name)),
    )


@record
class Constraints:
    """What an authority may make certificates for: domains with all that is below them, and networks."""

    domains: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @staticmethod
    def parse(texts: Iterable[str]) -> Constraints:
        """Read `corp.example`, `.corp.example`, `10.0.0.0/8`.

        Raises:
            UsageError: neither a domain nor a network.
        """
        domains: dict[str, None] = {}
        networks: dict[Network, None] = {}
        for text in texts:
            try:
                networks[ip_network(text)] = None
            except ValueError:
                domains[_host(text.lstrip("."))] = None
        return Constraints(tuple(domains), tuple(networks))

    def __bool__(self) -> bool:
        return bool(self.domains or self.networks)

    def refused(self, names: Names) -> list[str]:
        """The names that certificates under these constraints may not have."""
        if not self:
            return []
        wrong = [name for name in names.dns if not any(map(_below(name), self.domains))]
        wrong += [str(a) for a in names.addresses if not any(a in network for network in self.networks)]
        return wrong

    def general(self) -> list[x509.GeneralName]:
        """As X.509 has them. Whoever names only domains excludes every address, and the other way round."""
        return [*map(x509.DNSName, self.domains), *map(x509.IPAddress, self.networks)]


def _below(name: str):  # type: ignore[no-untyped-def]  # domain → bool
    bare = name.removeprefix("*.").lower()
    return lambda domain: bare == domain.lower() or bare.endswith("." + domain.lower())


def _address(text: str) -> Address | None:
    bare = text
    if text.startswith("["):
        bare = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        bare = text.partition(":")[0]
    try:
        return ip_address(bare)
    except ValueError:
        return None


def _host(text: str) -> str:
    bare = _PORT.sub("", text)
    if len(bare) > _MAX_DNS or not _DNS.fullmatch(bare):
        raise UsageError(
            f"{text!r} cannot be a name in a certificate",
            hint="names are hosts (a * may stand for the first part), IP addresses, URIs or mail addresses",
        )
    return bare.lower()
