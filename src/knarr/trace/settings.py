"""Where traces go: OpenTelemetry's environment variables as one record.

Spec: OpenTelemetry specification 1.x, "OTLP Exporter Configuration", "SDK Environment Variables".
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from knarr.errors import UsageError
from knarr.record import field, record

GRPC, HTTP = "grpc", "http/protobuf"
_PREFIX = "OTEL_EXPORTER_OTLP_"
_TIMEOUT_S = 10.0  # the specification's


@record
class OtlpSettings:
    """A collector. `resource` is what all spans say of who made them."""

    url: str  # http://host:4317 for gRPC, http://host:4318/v1/traces for HTTP
    protocol: str = HTTP
    headers: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    timeout_s: float = _TIMEOUT_S
    certificate: str = ""  # paths of PEM files
    client_certificate: str = ""
    client_key: str = ""
    insecure: bool = False  # gRPC without TLS where the URL has no scheme


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether a collector is named; cheap, so that everybody may ask."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    names = (f"{_PREFIX}ENDPOINT", f"{_PREFIX}TRACES_ENDPOINT")
    return any(environ.get(name) for name in names) or "OTEL_TRACES_EXPORTER" in environ


def from_environment(environ: Mapping[str, str]) -> OtlpSettings | None:
    """The collector that `environ` names; None: no traces are wanted.

    Raises:
        UsageError: a variable has a value that cannot be meant.
    """
    if not is_wanted(environ):
        return None

    def told(name: str, default: str = "") -> str:
        return environ.get(f"{_PREFIX}TRACES_{name}") or environ.get(f"{_PREFIX}{name}") or default

    own = environ.get(f"{_PREFIX}TRACES_ENDPOINT", "")
    general = environ.get(f"{_PREFIX}ENDPOINT", "")
    # BuildKit's default is gRPC, the specification's HTTP: the port, which is gRPC's or HTTP's own, decides.
    guess = HTTP if ":4318" in (own or general) else GRPC
    protocol = told("PROTOCOL", guess)
    if protocol not in (GRPC, HTTP):
        raise UsageError(f"{_PREFIX}PROTOCOL={protocol}: not supported", hint=f"use {GRPC} or {HTTP}")
    if protocol == HTTP:
        url = own or f"{(general or 'http://localhost:4318').rstrip('/')}/v1/traces"
        if urlsplit(url).scheme not in ("http", "https"):
            raise UsageError(f"{_PREFIX}ENDPOINT={own or general}: not an address of http:// or https://")
    else:
        url = own or general or "http://localhost:4317"
    return OtlpSettings(
        url,
        protocol,
        _pairs(told("HEADERS"), f"{_PREFIX}HEADERS"),
        _seconds(told("TIMEOUT")),
        told("CERTIFICATE"),
        told("CLIENT_CERTIFICATE"),
        told("CLIENT_KEY"),
        told("INSECURE").lower() == "true",
    )


def resource(environ: Mapping[str, str], service: str, version: str) -> dict[str, str]:
    """What spans say of this process."""
    said = _pairs(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES")
    name = environ.get("OTEL_SERVICE_NAME") or said.get("service.name") or service
    return {"service.version": version, **said, "service.name": name}


def _pairs(text: str, name: str) -> dict[str, str]:
    found = {}
    for part in text.split(","):
        if not part.strip():
            continue
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{name}: {part.strip()[:40]!r} is not KEY=VALUE")
        found[key.strip()] = unquote(value.strip())
    return found


def _seconds(text: str) -> float:
    if not text:
        return _TIMEOUT_S
    if not text.isdecimal():
        raise UsageError(f"{_PREFIX}TIMEOUT={text}: not a number of milliseconds")
    return int(text) / 1000
