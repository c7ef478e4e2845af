"""The files /etc/hosts and /etc/resolv.conf that a step sees instead of the image's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.network.steps import Dns

_RESOLV = Path("/etc/resolv.conf")
_BEHIND_STUB = Path("/run/systemd/resolve/resolv.conf")
_FALLBACK = ("8.8.8.8", "8.8.4.4")
_STUB = "127.0.0.53"  # systemd-resolved listens there, on the host's loopback only


def hosts_file(hostname: str, extra: Sequence[tuple[str, str]]) -> str:
    """The text of /etc/hosts with `extra` (name, address) pairs behind the two usual lines.

    Raises:
        UsageError: a name or an address would make another line of it.
    """
    lines = [f"127.0.0.1\tlocalhost {hostname}".rstrip(), "::1\tlocalhost ip6-localhost ip6-loopback"]
    for name, address in extra:
        if not name or not address or any(c.isspace() for c in name + address):
            raise UsageError(f"extra host {name!r} at {address!r} is not a name and an address")
        lines.append(f"{address}\t{name}")
    return "\n".join(lines) + "\n"


def resolv_conf(*, own_network: bool, source: Path = _RESOLV, behind_stub: Path = _BEHIND_STUB) -> str:
    """The text of /etc/resolv.conf: the host's.

    In a network of its own (`own_network`) a step does not reach the stub of
    systemd-resolved; then the servers behind the stub are named instead.
    """
    text = _text(source)
    if own_network and _servers(text) == [_STUB]:
        return _text(behind_stub) or text
    return text


def reachable(text: str, dns: Dns) -> str:
    """`text` for a network of its own: the servers the network names, else those that are not on the machine itself.

    When none is left, Google's, as BuildKit does it.
    """
    if dns.servers:
        lines = [f"nameserver {server}" for server in dns.servers]
        lines += [f"search {' '.join(dns.search)}"] if dns.search else []
        lines += [f"options {' '.join(dns.options)}"] if dns.options else []
        return "\n".join(lines) + "\n"
    near = [server for server in _servers(text) if server.startswith("127.") or server == "::1"]
    if not near and _servers(text):
        return text
    kept = [line for line in text.splitlines() if line.split()[1:2] not in [[server] for server in near]]
    if not _servers("\n".join(kept)):
        kept += [f"nameserver {server}" for server in _FALLBACK]
    return "\n".join(kept) + "\n"


def with_dns(text: str, dns: Dns) -> str:
    """`text` with what was asked for in the place of its own lines of that kind."""
    wanted = {
        "nameserver": [f"nameserver {server}" for server in dns.servers],
        "search": [f"search {' '.join(dns.search)}"] if dns.search else [],
        "options": [f"options {' '.join(dns.options)}"] if dns.options else [],
    }
    replaced = {kind for kind, lines in wanted.items() if lines}
    kept = [line for line in text.splitlines() if line.split()[:1] and line.split()[0] not in replaced]
    return "\n".join([*kept, *(line for lines in wanted.values() for line in lines)]) + "\n"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _servers(text: str) -> list[str]:
    lines = (line.split() for line in text.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
