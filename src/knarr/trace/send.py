"""Takes spans to a collector, over gRPC or HTTP. A collector that is not there fails no build: it is told once.

Spec: OpenTelemetry, "OTLP Specification 1.x".
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

from knarr.errors import KnarrError, UsageError
from knarr.trace.settings import GRPC, OtlpSettings

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Sender:
    """One collector. Safe from several threads; `send` blocks, at most for the time that the settings give."""

    def __init__(self, settings: OtlpSettings, tell: Callable[[str], object]) -> None:
        """`tell` is given a line when the collector cannot be had, once until it can.

        Raises:
            UsageError: a certificate cannot be read.
        """
        self._settings = settings
        self._tell = tell
        self._is_silent = False
        self._send = _over_grpc(settings) if settings.protocol == GRPC else _over_http(settings)

    def send(self, message: bytes) -> bool:
        """Send a request of `otlp.message`; whether the collector has it."""
        try:
            self._send(message)
        except KnarrError as error:
            if not self._is_silent:
                self._tell(f"traces are lost: {self._settings.url}: {error.message}")
            self._is_silent = True
            return False
        self._is_silent = False
        return True


def _over_http(settings: OtlpSettings) -> Callable[[bytes], None]:
    context = _tls(settings) if settings.url.startswith("https:") else None
    headers = {**settings.headers, "Content-Type": "application/x-protobuf", "User-Agent": "knarr"}

    def send(message: bytes) -> None:
        request = urllib.request.Request(settings.url, message, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=settings.timeout_s, context=context) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise KnarrError(f"HTTP status {error.code}") from None
        except OSError as error:
            raise KnarrError(str(getattr(error, "reason", error))) from None

    return send


def _tls(settings: OtlpSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.certificate or None)
        if settings.client_certificate:
            context.load_cert_chain(settings.client_certificate, settings.client_key or None)
    except OSError as error:
        raise UsageError(f"certificates of OTEL_EXPORTER_OTLP: {error.strerror or error}") from error
    return context


def _over_grpc(settings: OtlpSettings) -> Callable[[bytes], None]:
    import grpc

    url = urlsplit(settings.url)
    place = url.netloc or settings.url
    if url.scheme == "http" or (url.scheme != "https" and settings.insecure):
        channel = grpc.insecure_channel(place)
    else:
        files = (settings.certificate, settings.client_key, settings.client_certificate)
        channel = grpc.secure_channel(place, grpc.ssl_channel_credentials(*map(_read, files)))
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_EXPORT)
    headers = tuple((key.lower(), value) for key, value in settings.headers.items())

    def send(message: bytes) -> None:
        try:
            call(message, timeout=settings.timeout_s, metadata=headers)
        except grpc.RpcError as error:
            raise KnarrError(str(error.details() if isinstance(error, grpc.Call) else error)) from None

    return send


def _read(path: str) -> bytes | None:
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
