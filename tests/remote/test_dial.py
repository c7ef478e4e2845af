from __future__ import annotations

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator

import pytest

from knarr.errors import RegistryError
from knarr.remote.dial import proxy_for
from knarr.remote.settings import Proxies, RegistrySettings
from knarr.remote.url import Origin
from knarr.spec.reference import Reference

from .conftest import Connect
from .fakeregistry import FakeRegistry
from .material import LAYER, blob, read

R = Origin("https", "r.corp.example", 443)


@pytest.mark.parametrize(
    ("none", "spared"),
    [
        ("", False),
        ("*", True),
        ("r.corp.example", True),
        ("corp.example", True),
        (".corp.example", True),
        ("*.corp.example", True),
        ("orp.example", False),
        ("corp.example:443", True),
        ("corp.example:5000", False),
        ("10.0.0.0/8", False),
    ],
)
def test_no_proxy_is_read_as_others_read_it(none: str, spared: bool) -> None:
    proxies = Proxies.from_environment({"HTTPS_PROXY": "http://p:3128", "no_proxy": f"other, {none}"})
    assert (proxy_for(R, proxies) == "") is spared


def test_networks_and_loopback_go_without_a_proxy() -> None:
    proxies = Proxies("http://p", "http://p", ("10.0.0.0/8", "fd00::1"))
    assert proxy_for(Origin("http", "10.1.2.3", 80), proxies) == ""
    assert proxy_for(Origin("http", "fd00::1", 80), proxies) == ""
    assert proxy_for(Origin("http", "127.0.0.1", 80), proxies) == ""
    assert proxy_for(Origin("http", "11.1.2.3", 80), proxies) == "http://p"


class Proxy:
    """A CONNECT proxy that joins whoever asks to one port, or refuses."""

    def __init__(self, port: int, *, status: int = 200) -> None:
        self._port, self._status = port, status
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._open = True

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._threads.append(threading.Thread(target=self._tunnel, args=(client,)))
            self._threads[-1].start()

    def _tunnel(self, client: socket.socket) -> None:
        client.settimeout(5)
        self.heads.append(client.recv(4096))
        client.sendall(b"HTTP/1.1 %d Said\r\nX: y\r\n\r\n" % self._status)
        if self._status == 200:
            with socket.create_connection(("127.0.0.1", self._port)) as far:
                pumps = [threading.Thread(target=_pump, args=pair) for pair in ((client, far), (far, client))]
                for pump in pumps:
                    pump.start()
                for pump in pumps:
                    pump.join()
        client.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def proxy(fake: FakeRegistry) -> Iterator[Proxy]:
    with Proxy(fake.port) as running:
        yield running


def test_a_proxy_is_used_with_its_login(fake: FakeRegistry, proxy: Proxy, connect: Connect) -> None:
    fake.add_blob("app", LAYER)
    proxies = Proxies(http=f"http://me:p%40ss@{proxy.address}")
    settings = RegistrySettings(hosts_dirs=(), plain_http=frozenset(("far.example:80",)), proxies=proxies)
    client = connect(settings)

    assert read(client.repository(Reference.parse("far.example:80/app")), blob(LAYER)) == LAYER
    client.close()

    assert proxy.heads[0].startswith(b"CONNECT far.example:80 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + b64encode(b"me:p@ss") in proxy.heads[0]


def test_a_proxy_that_refuses_is_named(fake: FakeRegistry, connect: Connect) -> None:
    with Proxy(fake.port, status=407) as refusing:
        settings = RegistrySettings(
            hosts_dirs=(), plain_http=frozenset(("far.example",)), proxies=Proxies(http=refusing.address)
        )
        with pytest.raises(
            RegistryError, match=f"proxy http://{refusing.address} refused a tunnel to far.example: 407"
        ):
            connect(settings).repository(Reference.parse("far.example/app")).resolve("1")


def test_an_address_from_the_settings_takes_the_place_of_dns(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob("app", LAYER)
    name = f"registry.test:{fake.port}"
    settings = RegistrySettings(hosts_dirs=(), plain_http=frozenset((name,)), addresses={"registry.test": "127.0.0.1"})
    assert read(connect(settings).repository(Reference.parse(f"{name}/app")), blob(LAYER)) == LAYER
    assert fake.seen[0].headers["host"] == name
