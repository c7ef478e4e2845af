from __future__ import annotations

import pytest

from knarr.errors import RegistryError
from knarr.remote.url import Origin, Url, is_loopback, join, parse, with_query


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("https://r.example", Origin("https", "r.example", 443), "/"),
        ("http://R.Example:5000/v2/a?b=c#d", Origin("http", "r.example", 5000), "/v2/a?b=c"),
        ("https://user:pass@r.example/x", Origin("https", "r.example", 443), "/x"),
        ("https://[::1]:8443/x", Origin("https", "::1", 8443), "/x"),
        ("https://r.example?x=/y", Origin("https", "r.example", 443), "/?x=/y"),
    ],
)
def test_an_absolute_url_is_taken_apart(text: str, origin: Origin, target: str) -> None:
    assert parse(text) == Url(origin, target)


@pytest.mark.parametrize(
    "text",
    ["r.example", "ftp://r.example", "https://", "https://r:0/", "https://r/a b", "https://r/\nx", "https://a b/"],
)
def test_what_is_no_usable_url_is_refused(text: str) -> None:
    with pytest.raises(RegistryError):
        parse(text)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/v2/x?s=1", "https://r.example/v2/x?s=1"),
        ("https://s3.example/b", "https://s3.example/b"),
        ("//s3.example/b", "https://s3.example/b"),
        ("other", "https://r.example/v2/a/other"),
        ("?s=2", "https://r.example/v2/a/b?s=2"),
        ("/v2/x?next=http://elsewhere/", "https://r.example/v2/x?next=http://elsewhere/"),
    ],
)
def test_a_location_is_joined_to_where_it_came_from(location: str, expected: str) -> None:
    assert str(join(parse("https://r.example/v2/a/b?q"), location)) == expected


def test_a_query_is_kept_and_added_to() -> None:
    assert with_query("/u?state=x", "digest=y") == "/u?state=x&digest=y"
    assert with_query("/u", "digest=y") == "/u?digest=y"


def test_messages_never_show_a_query() -> None:
    assert parse("https://s3.example/b?X-Amz-Signature=secret").redacted == "https://s3.example/b?…"


def test_the_host_header_names_the_port_only_where_it_is_not_the_schemes_own() -> None:
    assert Origin("https", "r.example", 443).netloc == "r.example"
    assert Origin("http", "::1", 5000).netloc == "[::1]:5000"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("127.example", False), ("r", False)],
)
def test_loopback_is_told_by_form(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
