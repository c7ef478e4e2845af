"""Blobs over HTTP: ranges, conditions, deletion."""

from __future__ import annotations

import pytest

from .conftest import Client, digest

SMALL = bytes(range(256)) * 8
LARGE = bytes(range(251)) * 4000  # more than is sent without sendfile


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("text", "first", "last"),
    [("bytes=500-1499", 500, 1499), ("bytes=500-", 500, None), ("bytes=-500", -500, None), ("bytes=0-0", 0, 0)],
)
def test_a_part_of_a_blob(client: Client, data: bytes, text: str, first: int, last: int | None) -> None:
    name = client.push_blob("a", data)
    wanted = data[first:] if last is None else data[first : last + 1]
    start = len(data) + first if first < 0 else first

    got = client("GET", f"/v2/a/blobs/{name}", Range=text)

    assert (got.status, got.body) == (206, wanted)
    assert got.headers["Content-Range"] == f"bytes {start}-{start + len(wanted) - 1}/{len(data)}"


def test_a_range_past_the_end_is_cut_and_one_beyond_it_refused(client: Client) -> None:
    name = client.push_blob("a", SMALL)
    assert client("GET", f"/v2/a/blobs/{name}", Range="bytes=2000-5000").body == SMALL[2000:]
    for text in ("bytes=500-0", "bytes=5000-10000", "bytes=2048-"):
        answer = client("GET", f"/v2/a/blobs/{name}", Range=text)
        assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */2048")


@pytest.mark.parametrize("text", ["bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=a-b", "bytes=0-" + "9" * 5000])
def test_a_range_that_is_not_understood_gives_the_whole(client: Client, text: str) -> None:
    name = client.push_blob("a", SMALL)
    got = client("GET", f"/v2/a/blobs/{name}", Range=text)
    assert (got.status, got.body) == (200, SMALL)


def test_head_tells_the_size_and_sends_nothing(client: Client) -> None:
    name = client.push_blob("a", LARGE)
    head = client("HEAD", f"/v2/a/blobs/{name}")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(LARGE)), b"")
    assert head.headers["Accept-Ranges"] == "bytes"


def test_an_empty_blob(client: Client) -> None:
    name = client.push_blob("a", b"")
    assert client("GET", f"/v2/a/blobs/{name}").body == b""
    assert client("HEAD", f"/v2/a/blobs/{name}").headers["Content-Length"] == "0"


def test_who_has_it_already_is_not_sent_it_again(client: Client) -> None:
    name = client.push_blob("a", SMALL)
    assert client("GET", f"/v2/a/blobs/{name}", If_None_Match=f'"{name}"').status == 304


def test_a_blob_is_of_the_repositories_it_was_pushed_to(client: Client) -> None:
    name = client.push_blob("a", SMALL)
    client.push_blob("b", SMALL)
    assert client("GET", f"/v2/c/blobs/{name}").codes == ["BLOB_UNKNOWN"]
    assert client("DELETE", f"/v2/a/blobs/{name}").status == 202
    assert client("GET", f"/v2/a/blobs/{name}").status == 404
    assert client("DELETE", f"/v2/a/blobs/{name}").status == 404
    assert client("GET", f"/v2/b/blobs/{name}").body == SMALL


def test_many_requests_on_one_connection(client: Client) -> None:
    connection = client.connection()
    name = client.push_blob("a", LARGE)
    for _ in range(5):
        connection.request("GET", f"/v2/a/blobs/{name}")
        assert connection.getresponse().read() == LARGE
        connection.request("POST", "/v2/a/blobs/uploads/?digest=" + digest(b"other"), b"lie")
        assert connection.getresponse().read()
    connection.close()
