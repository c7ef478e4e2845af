"""Steps of a plain user with a network of their own, that pasta or slirp4netns carries."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.profiles import places

pytestmark = [pytest.mark.root, pytest.mark.system]

MakePlace = Callable[..., places.Place]
RESOLVER = "127.0.0.77"  # on the machine's loopback, where a step does not get
ANSWER = "192.0.2.7"


@pytest.fixture(scope="module")
def resolver() -> Iterator[None]:
    """A name server that knows one address for everything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((RESOLVER, 53))

        def answer() -> None:
            while (asked := server.recvfrom(512))[0] != b"end":
                query, who = asked
                end = query.index(0, 12) + 5
                is_a = query[end - 4 : end - 2] == b"\x00\x01"
                head = query[:2] + b"\x81\x80\x00\x01" + (b"\x00\x01" if is_a else b"\x00\x00") + bytes(4)
                record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + socket.inet_aton(ANSWER)
                server.sendto(head + query[12:end] + (record if is_a else b""), who)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", (RESOLVER, 53))
        thread.join()


@pytest.fixture
def there(place: MakePlace, request: pytest.FixtureRequest) -> places.Place:
    """A user who may open /dev/net/tun, as udev lets everybody, on a machine with a resolver of its own."""
    made = place(request.param)
    tun, resolv = made.home / "tun", made.home / "resolv.conf"
    os.mknod(tun, stat.S_IFCHR | 0o666, os.makedev(10, 200))
    os.chmod(tun, 0o666)
    resolv.write_text(f"nameserver {RESOLVER}\n")
    made.files = {"/dev/net/tun": tun, "/etc/resolv.conf": resolv}
    return made


def build(place: places.Place, text: str, **env: str) -> str:
    directory = place.home / "context"
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(text)
    done = place.knarr("build", "--progress=plain", "--no-cache", str(directory), **env)
    return f"{done.returncode}\n{done.stderr}"


@pytest.mark.parametrize("there", ["user", "single"], indirect=True)
@pytest.mark.parametrize("program", ["pasta", "slirp4netns", "user"])
@pytest.mark.usefixtures("resolver")
def test_a_step_has_a_network_of_its_own_and_names_are_found(there: places.Place, program: str) -> None:
    if program != "user" and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: older releases have none")
    with socket.socket() as near:
        near.bind(("127.0.0.1", 0))
        near.listen()
        text = (
            "FROM busybox\n"
            f"RUN nslookup some.example | grep {ANSWER}\n"
            f"RUN ! nc -w 2 127.0.0.1 {near.getsockname()[1]} </dev/null\n"
            "RUN test $(ip -o link | wc -l) = 2\n"
        )
        found = build(there, text, KNARR_NETWORK=program)
    assert found.startswith("0\n"), found


@pytest.mark.parametrize("there", ["user"], indirect=True)
def test_what_is_missing_is_told(there: places.Place) -> None:
    there.files = {}
    if os.stat("/dev/net/tun").st_mode & 0o006:
        pytest.skip("/dev/net/tun is everybody's on this machine")
    found = build(there, "FROM busybox\nRUN true\n", KNARR_NETWORK="slirp4netns")
    assert found.startswith("1\n")
    assert 'slirp4netns: open("/dev/net/tun"): Permission denied' in found
    assert "hint: let users open /dev/net/tun" in found
