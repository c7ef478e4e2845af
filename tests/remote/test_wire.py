"""The HTTP/1.1 wire against answers written by hand: framing, limits, and what ends early."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.remote.wire import Answer, Connection, Cut, Malformed

Say = Callable[[bytes], Connection]


@pytest.fixture
def say() -> Iterator[Say]:
    """A connection whose far end has already written `raw` and closed its side."""
    opened: list[Connection | socket.socket] = []

    def make(raw: bytes) -> Connection:
        ours, theirs = socket.socketpair()
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_WR)
        opened.extend((Connection(ours), theirs))
        return opened[-2]  # type: ignore[return-value]  # the Connection just made

    yield make
    for each in opened:
        each.close()


def ask(connection: Connection, method: str = "GET") -> Answer:
    return connection.exchange(method, "/", [("Host", "x")], timeout_s=5)


def test_a_body_of_known_length_leaves_the_connection_usable(say: Say) -> None:
    answer = ask(say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello"))

    assert (answer.status, answer.headers.all("x-a"), answer.length) == (200, ["1", "2"], 5)
    assert answer.read(3) + answer.read() == b"hello"
    assert answer.reusable


def test_chunks_are_joined_and_trailers_skipped(say: Say) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
    answer = ask(say(raw))

    assert answer.read() == b"abcde"
    assert answer.reusable


def test_a_body_without_a_length_ends_with_the_connection(say: Say) -> None:
    answer = ask(say(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"))

    assert answer.read() == b"until the end"
    assert not answer.reusable


@pytest.mark.parametrize("method", ["HEAD"])
def test_an_answer_to_head_has_a_length_and_no_body(say: Say, method: str) -> None:
    answer = ask(say(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"), method)

    assert (answer.length, answer.read(), answer.reusable) == (500, b"", True)


def test_interim_answers_are_passed_over(say: Say) -> None:
    answer = ask(say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n"))

    assert (answer.status, answer.read()) == (204, b"")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_a_connection_that_is_to_close_is_not_used_again(say: Say, head: bytes) -> None:
    answer = ask(say(head + b"Content-Length: 2\r\n\r\nok"))

    assert answer.read() == b"ok"
    assert not answer.reusable


def test_a_body_that_ends_early_is_cut_only_after_what_came(say: Say) -> None:
    answer = ask(say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"))

    assert answer.read(100) == b"hel"
    with pytest.raises(Cut):
        answer.read(100)


@pytest.mark.parametrize(
    ("raw", "started"), [(b"", False), (b"HTTP/1.1 200", True), (b"HTTP/1.1 200 OK\r\nA: b\r\n", True)]
)
def test_an_answer_that_ends_before_its_body_says_whether_it_had_begun(say: Say, raw: bytes, started: bool) -> None:
    with pytest.raises(Cut) as caught:
        ask(say(raw))
    assert caught.value.started is started


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_answer_is_refused(say: Say, raw: bytes) -> None:
    with pytest.raises(Malformed):
        ask(say(raw))


def test_a_bad_chunk_size_is_refused(say: Say) -> None:
    answer = ask(say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n"))
    with pytest.raises(Malformed):
        answer.read()


def test_an_answer_that_comes_before_the_body_was_taken_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()

    class Endless:
        length = 64 << 20

        def pieces(self) -> Iterator[bytes]:
            yield from (bytes(1 << 20) for _ in range(64))

    def refuse() -> None:
        theirs.recv(1000)
        theirs.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        theirs.close()

    thread = threading.Thread(target=refuse)
    thread.start()
    connection = Connection(ours)
    answer = connection.exchange("PUT", "/", [], Endless(), timeout_s=5)
    thread.join()

    assert answer.status == 413
    assert not answer.reusable
    connection.close()


def test_abort_wakes_a_read_that_blocks() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    timer = threading.Timer(0.05, connection.abort)
    timer.start()
    with pytest.raises(Cut):
        connection.exchange("GET", "/", [], timeout_s=30)
    timer.join()
    connection.close()
    theirs.close()


def test_a_line_end_in_a_header_is_never_sent(say: Say) -> None:
    with pytest.raises(ValueError, match="line end"):
        say(b"").exchange("GET", "/", [("X", "a\r\nB: c")], timeout_s=5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.integers(1, 64))
def test_any_division_into_chunks_gives_the_same_body(parts: list[bytes], size: int) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n")
    connection = Connection(ours)
    answer = ask(connection)

    assert b"".join(iter(lambda: answer.read(size), b"")) == b"".join(parts)
    assert answer.reusable
    connection.close()
    theirs.close()
