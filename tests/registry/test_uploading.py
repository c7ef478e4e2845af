"""Uploads in every form, cut, resumed, lied about."""

from __future__ import annotations

import random
import socket
import time

import pytest

from knarr.registry.settings import Limits, ServerSettings

from .conftest import Client, Start, digest

DATA = bytes(range(256)) * 16


def begin(client: Client, repository: str = "a/b", query: str = "") -> str:
    answer = client("POST", f"/v2/{repository}/blobs/uploads/{query}")
    assert answer.status == 202
    assert answer.headers["Range"] == "0-0"
    return str(answer.headers["Location"])


def patch(client: Client, place: str, data: bytes, offset: int) -> tuple[int, str]:
    answer = client("PATCH", place, data, Content_Range=f"{offset}-{offset + len(data) - 1}")
    return answer.status, answer.headers["Range"]


def test_one_post_is_enough(client: Client) -> None:
    answer = client("POST", f"/v2/a/b/blobs/uploads/?digest={digest(DATA)}", DATA)

    assert answer.status == 201
    got = client("GET", answer.headers["Location"])
    assert (got.status, got.body, got.headers["Docker-Content-Digest"]) == (200, DATA, digest(DATA))


def test_a_blob_of_many_pieces_comes_back_as_it_was(client: Client) -> None:
    data = random.Random(1).randbytes(40 << 20)  # the disk begins to write before all is here
    name = client.push_blob("a", data)
    assert client("GET", f"/v2/a/blobs/{name}").body == data


def test_chunks_that_do_not_follow_each_other_are_refused_with_the_true_offset(client: Client) -> None:
    place = begin(client)

    assert patch(client, place, DATA[:1000], 0) == (202, "0-999")
    assert patch(client, place, DATA[2000:3000], 2000) == (416, "0-999")
    assert patch(client, place, DATA[:1000], 0) == (416, "0-999")
    early = client("PUT", f"{place}?digest={digest(DATA)}", DATA[2000:], Content_Range=f"2000-{len(DATA) - 1}")
    assert early.status == 416
    assert patch(client, place, DATA[1000:], 1000) == (202, f"0-{len(DATA) - 1}")
    assert client("PUT", f"{place}?digest={digest(DATA)}").status == 201


def test_a_stream_without_a_length_is_taken(client: Client) -> None:
    place = begin(client)
    pieces = iter([DATA] * 700)  # 2.9 MB, in chunked transfer encoding

    assert client("PATCH", place, pieces).headers["Range"] == f"0-{len(DATA) * 700 - 1}"
    assert client("PUT", f"{place}?digest={digest(DATA * 700)}").status == 201


@pytest.mark.parametrize("algorithm", ["sha512", "sha384"])
def test_the_digest_may_be_of_another_algorithm_announced_or_not(client: Client, algorithm: str) -> None:
    for query in ("", f"?digest-algorithm={algorithm}"):
        place = begin(client, query=query)
        client("PATCH", place, DATA)
        name = digest(DATA, algorithm)
        assert client("PUT", f"{place}?digest={name}").headers["Docker-Content-Digest"] == name
        assert client("GET", f"/v2/a/b/blobs/{name}").body == DATA
        assert client("DELETE", f"/v2/a/b/blobs/{name}").status == 202


def test_an_upload_survives_a_restart_and_a_cut_and_goes_on_at_the_byte(start: Start) -> None:
    running = start()
    place = begin(running.client)
    patch(running.client, place, DATA[:1000], 0)
    running.stop()

    again = start()
    asked = again.client("GET", place)
    assert (asked.status, asked.headers["Range"]) == (204, "0-999")
    half_sent(again.client, place, DATA[1000:1700], length=3000).close()
    offset = int(again.client("GET", place).headers["Range"].removeprefix("0-")) + 1
    assert 1000 <= offset <= 1700
    assert patch(again.client, place, DATA[offset:], offset)[0] == 202
    assert again.client("PUT", f"{place}?digest={digest(DATA)}").status == 201


def test_who_comes_back_before_the_server_has_noticed_takes_over(client: Client) -> None:
    place = begin(client)
    with half_sent(client, place, DATA[:500], length=3000) as hanging:
        time.sleep(0.2)  # not needed for the promise, only for the server to have something in hand
        last = client("GET", place).headers["Range"].removeprefix("0-")
        offset = int(last) + 1 if last != "0" else 0
        answer = client("PUT", f"{place}?digest={digest(DATA)}", DATA[offset:])
        assert _is_over(hanging)

    assert answer.status == 201
    assert client("GET", f"/v2/a/b/blobs/{digest(DATA)}").body == DATA


def test_a_body_that_does_not_come_is_given_up(start: Start) -> None:
    client = start(ServerSettings(limits=Limits(idle_s=0.3))).client
    place = begin(client)
    with half_sent(client, place, DATA[:700], length=3000) as slow:
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    assert client("GET", place).headers["Range"] == "0-699"


def test_a_header_that_does_not_come_is_given_up(start: Start) -> None:
    client = start(ServerSettings(limits=Limits(idle_s=0.3))).client
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as slow:
        slow.sendall(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX: ")
        assert _is_over(slow)


def test_a_wrong_digest_is_refused_and_nothing_is_visible(client: Client) -> None:
    wrong = digest(b"something else")
    for target in (f"/v2/a/b/blobs/uploads/?digest={wrong}", None):
        place = target or f"{begin(client)}?digest={wrong}"
        answer = client("POST" if target else "PUT", place, DATA)
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    for name in (wrong, digest(DATA)):
        assert client("HEAD", f"/v2/a/b/blobs/{name}").status == 404
    assert client("GET", place.partition("?")[0]).codes == ["BLOB_UPLOAD_UNKNOWN"]


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:xyz", "md5:" + "a" * 32, "sha256:" + "A" * 64])
def test_a_malformed_digest_is_refused(client: Client, text: str) -> None:
    assert client("PUT", f"{begin(client)}?digest={text}", DATA).codes == ["DIGEST_INVALID"]
    assert client("GET", f"/v2/a/b/blobs/{text or 'x'}").codes == ["DIGEST_INVALID"]


def test_lengths_that_contradict_each_other_are_refused(client: Client) -> None:
    place = begin(client)
    answer = client("PATCH", place, DATA[:10], Content_Range="0-99")
    assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])
    assert client("PATCH", place, DATA[:10], Content_Range="nonsense").codes == ["BLOB_UPLOAD_INVALID"]
    assert client("GET", place).headers["Range"] == "0-0"


def test_an_upload_is_cancelled_and_belongs_to_its_repository(client: Client) -> None:
    place = begin(client)
    assert client("GET", place.replace("/a/b/", "/other/")).status == 404
    assert client("DELETE", place).status == 204
    assert client("PATCH", place, DATA).codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert client("GET", place).status == 404


def test_uploads_nobody_goes_on_with_are_dropped(start: Start) -> None:
    running = start()
    place = begin(running.client)
    patch(running.client, place, DATA, 0)
    assert running.registry.parts.uploads.sweep(-1.0) == len(DATA)
    assert running.client("GET", place).status == 404


def test_a_blob_is_mounted_from_a_repository_named_or_not(client: Client) -> None:
    name = client.push_blob("from/here", DATA)
    for query in (f"?mount={name}&from=from/here", f"?mount={name}"):
        assert client("POST", f"/v2/to/there/blobs/uploads/{query}").status == 201
        assert client("GET", f"/v2/to/there/blobs/{name}").body == DATA
        client("DELETE", f"/v2/to/there/blobs/{name}")
    for query in (f"?mount={name}&from=not/here", f"?mount={digest(b'nowhere')}"):
        assert client("POST", f"/v2/to/there/blobs/uploads/{query}").status == 202


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(client: Client) -> None:
    place = begin(client)
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as link:
        link.sendall(f"PATCH {place} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n".encode())
        assert link.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"abc")
        assert link.recv(1000).startswith(b"HTTP/1.1 202")


def half_sent(client: Client, place: str, data: bytes, *, length: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", client.port), timeout=10)
    link.sendall(f"PATCH {place} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode() + data)
    return link


def _is_over(link: socket.socket) -> bool:
    """Whether the other side has ended the connection, in whichever way."""
    try:
        return link.recv(100) == b""
    except ConnectionResetError:
        return True
