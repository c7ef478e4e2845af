"""TLS of the daemon, as clients' libraries do it, with and without ALPN."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.daemon.settings import Tls
from knarr.daemon.tlsfront import context
from knarr.errors import UsageError
from tests.registry.pki import Authority

from .conftest import Running, running

pytestmark = [pytest.mark.root, pytest.mark.system]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")  # and empty settings


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    authority = Authority(directory)
    authority.issue("localhost")
    authority.issue("me")
    Authority(directory / "other").issue("me")
    return directory


@pytest.fixture(scope="module")
def port(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    flags = (f"--tlscert={place}/localhost.pem", f"--tlskey={place}/localhost.key", f"--tlscacert={place}/ca.pem")
    with running(tmp_path_factory.mktemp("daemon") / "root", *flags, "--addr", "tcp://127.0.0.1:0") as daemon:
        yield _port(daemon)


def _port(daemon: Running) -> int:
    return int(daemon.log.read_text().partition("tcp://127.0.0.1:")[2].partition(",")[0])


def first_frame(port: int, place: Path, pair: Path | None, alpn: list[str]) -> int:
    """The type of the frame by which the server begins HTTP/2."""
    trust = ssl.create_default_context(cafile=str(place / "ca.pem"))
    if alpn:
        trust.set_alpn_protocols(alpn)
    if pair is not None:
        trust.load_cert_chain(f"{pair}.pem", f"{pair}.key")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as link,
    ):
        assert link.selected_alpn_protocol() == ("h2" if alpn else None)
        link.sendall(PREFACE)
        head = link.recv(9)
        return head[3] if len(head) == 9 else -1


@pytest.mark.parametrize("alpn", [["h2"], []], ids=["as gRPC says it", "without ALPN, as buildx does"])
def test_a_client_with_a_certificate_is_spoken_to(port: int, place: Path, alpn: list[str]) -> None:
    assert first_frame(port, place, place / "me", alpn) == 4  # SETTINGS


@pytest.mark.parametrize("pair", [None, "other/me"], ids=["none", "of another CA"])
def test_one_without_the_right_certificate_is_not(port: int, place: Path, pair: str | None) -> None:
    try:
        found = first_frame(port, place, place / pair if pair else None, ["h2"])
    except (ssl.SSLError, ConnectionError):
        return
    assert found == -1  # with TLS 1.3 the refusal may come as the end


def test_half_a_handshake_keeps_nobody_out(port: int, place: Path) -> None:
    with (
        socket.create_connection(("127.0.0.1", port)) as silent,
        socket.create_connection(("127.0.0.1", port)) as noisy,
    ):
        silent.sendall(b"\x16\x03\x01")
        noisy.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert first_frame(port, place, place / "me", ["h2"]) == 4


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (Tls(cert="a"), "give both|certificate and its key"),
        (Tls("nowhere.pem", "localhost.key"), "nowhere.pem: No such file"),
        (Tls("localhost.pem", "me.key"), "no certificate with its key"),
        (Tls("localhost.pem", "localhost.key", "localhost.key"), "no certificate of a CA"),
    ],
)
def test_files_that_do_not_fit_are_told(place: Path, tls: Tls, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(UsageError, match=said):
        context(tls)
