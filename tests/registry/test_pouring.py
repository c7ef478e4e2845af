"""Large blobs to clients that are fast, slow, many, or gone."""

from __future__ import annotations

import socket
import threading
import time

from knarr.registry.settings import Limits, ServerSettings

from .conftest import Client, Start, digest

LARGE = b"".join(number.to_bytes(4, "big") * 256 for number in range(16 << 10))  # 16 MiB


def asked(client: Client, name: str) -> socket.socket:
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    link.connect(("127.0.0.1", client.port))
    link.settimeout(20)
    link.sendall(f"GET /v2/a/blobs/{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return link


def body(link: socket.socket, *, pause_s: float = 0.0) -> bytes:
    """The body of the answer; after its first bytes nothing is read for `pause_s`."""
    data = link.recv(1000)
    time.sleep(pause_s)
    while len(data.partition(b"\r\n\r\n")[2]) < len(LARGE):
        try:
            piece = link.recv(1 << 20)
        except ConnectionResetError:
            break
        if not piece:
            break
        data += piece
    return data.partition(b"\r\n\r\n")[2]


def test_a_client_that_pauses_gets_the_whole(client: Client) -> None:
    name = client.push_blob("a", LARGE)
    with asked(client, name) as link:
        assert body(link, pause_s=0.4) == LARGE


def test_many_at_once_each_get_the_whole(client: Client) -> None:
    name = client.push_blob("a", LARGE)
    got: list[bool] = []

    def pull() -> None:
        with asked(client, name) as link:
            got.append(body(link) == LARGE)

    threads = [threading.Thread(target=pull) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 6


def test_a_client_that_goes_away_leaves_nothing_behind(start: Start) -> None:
    running = start()
    name = running.client.push_blob("a", LARGE)
    for _ in range(3):
        with asked(running.client, name) as link:
            link.recv(1000)
    assert running.registry.parts.pouring.free.acquire(timeout=10)  # the thread has come back
    running.registry.parts.pouring.free.release()
    assert digest(running.client("GET", f"/v2/a/blobs/{name}").body) == name
    assert running.told == []


def test_a_client_that_reads_nothing_is_cut_off(start: Start) -> None:
    running = start(ServerSettings(limits=Limits(idle_s=0.5)))
    name = running.client.push_blob("a", LARGE)
    with asked(running.client, name) as link:
        time.sleep(5)
        assert len(body(link)) < len(LARGE)


def test_the_connection_goes_on_behind_a_large_blob(client: Client) -> None:
    name = client.push_blob("a", LARGE)
    connection = client.connection()
    for _ in range(3):
        connection.request("GET", f"/v2/a/blobs/{name}", headers={"Range": f"bytes=7-{len(LARGE) - 3}"})
        assert connection.getresponse().read() == LARGE[7:-2]
        connection.request("GET", "/v2/")
        assert connection.getresponse().read() == b"{}"
    connection.close()
