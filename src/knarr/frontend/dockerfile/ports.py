"""EXPOSE's port words: `80`, `53/udp`, `8000-8010`, and the host parts that Docker once allowed and nobody reads."""

from __future__ import annotations

from collections.abc import Iterable

from knarr.errors import DockerfileError
from knarr.regex import later

_PROTOCOLS = ("tcp", "udp", "sctp")
_MAX_PORT = 65535
_NUMBER = later("[0-9]{1,20}")


def exposed_ports(words: Iterable[str]) -> list[str]:
    """Every port as the image config names it: `80/tcp`.

    Raises:
        DockerfileError: not a port, a range that runs backwards, or a protocol no container has. No span yet.
    """
    return [port for word in words for port in _ports_of(word)]


def _ports_of(word: str) -> list[str]:
    *host, last = word.rsplit(":", 2)
    number, _, protocol = last.partition("/")
    if not number:
        raise DockerfileError(f'invalid port: "{word}": no port specified', hint="such as 53/udp")
    if protocol and protocol.lower() not in _PROTOCOLS:
        raise DockerfileError(f'invalid port: "{word}": invalid proto: {protocol}', hint="tcp, udp or sctp")
    first, end = _range(number, "containerPort")
    if len(host) == 2:
        _check_address(host[0])
    if host and host[-1]:
        _check_host_range(host[-1], number, first, end)
    return [f"{port}/{protocol.lower() or 'tcp'}" for port in range(first, end + 1)]


def _range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = [int(part) for part in ((first, last) if dash else (first,)) if _NUMBER.fullmatch(part)]
    if len(numbers) != (2 if dash else 1) or max(numbers) > _MAX_PORT or numbers != sorted(numbers):
        raise DockerfileError(
            f"invalid {what}: {text}", hint=f"a port is a number from 0 to {_MAX_PORT}, or two as 80-90"
        )
    return numbers[0], numbers[-1]


def _check_address(text: str) -> None:
    import ipaddress  # only for a form that is all but gone

    try:
        if text:
            ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        raise DockerfileError(f"invalid IP address: {text}", hint="EXPOSE names ports of the container alone") from None


def _check_host_range(text: str, container: str, first: int, end: int) -> None:
    host_first, host_end = _range(text, "hostPort")
    if end - first != host_end - host_first and end != first:
        raise DockerfileError(
            f"invalid ranges specified for container and host Ports: {container} and {text}",
            hint="EXPOSE names ports of the container alone",
        )
