"""OpenTelemetry's environment variables."""

from __future__ import annotations

import pytest

from knarr.errors import UsageError
from knarr.trace.settings import GRPC, HTTP, OtlpSettings, from_environment, resource

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environ", "url", "protocol"),
    [
        ({ENDPOINT: "http://c:4317"}, "http://c:4317", GRPC),
        ({ENDPOINT: "http://c:4318"}, "http://c:4318/v1/traces", HTTP),
        ({ENDPOINT: "https://c/", "OTEL_EXPORTER_OTLP_PROTOCOL": HTTP}, "https://c/v1/traces", HTTP),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/own", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": HTTP},
            "http://c/own",
            HTTP,
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4317", GRPC),
    ],
)
def test_a_collector_is_found(environ: dict[str, str], url: str, protocol: str) -> None:
    found = from_environment(environ)
    assert found is not None
    assert (found.url, found.protocol) == (url, protocol)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "x"},
        {ENDPOINT: "http://c", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://c", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_one_nothing_is_sent(environ: dict[str, str]) -> None:
    assert from_environment(environ) is None


def test_headers_and_timeout_count() -> None:
    found = from_environment(
        {ENDPOINT: "http://c", "OTEL_EXPORTER_OTLP_HEADERS": "a=1%202, b=3", "OTEL_EXPORTER_OTLP_TIMEOUT": "2500"}
    )
    assert isinstance(found, OtlpSettings)
    assert (found.headers, found.timeout_s) == ({"a": "1 2", "b": "3"}, 2.5)


@pytest.mark.parametrize(("name", "value"), [("PROTOCOL", "http/json"), ("HEADERS", "nothing"), ("TIMEOUT", "soon")])
def test_what_cannot_be_meant_is_told(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"OTEL_EXPORTER_OTLP_{name}"):
        from_environment({ENDPOINT: "http://c", f"OTEL_EXPORTER_OTLP_{name}": value})


def test_a_process_says_who_it_is() -> None:
    assert resource({}, "knarr", "1") == {"service.version": "1", "service.name": "knarr"}
    said = resource({"OTEL_RESOURCE_ATTRIBUTES": "team=a,service.name=b", "OTEL_SERVICE_NAME": "c"}, "knarr", "1")
    assert said == {"service.version": "1", "team": "a", "service.name": "c"}
