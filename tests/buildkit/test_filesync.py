"""Files of a client, over a session as clients open them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.buildkit.filesync import receive
from knarr.buildkit.sessions import Client as Caller
from knarr.buildkit.sessions import Sessions
from knarr.errors import Cancelled, KnarrError
from knarr.pb.packet_pb2 import Packet
from knarr.pb.stat_pb2 import Stat
from knarr.scope import Scope
from knarr.session.session import Wanted

from .client import Client, walk
from .conftest import Connect

CONTEXT = Wanted("context")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "src/deep").mkdir(parents=True)
    (root / "src.txt").write_text("between src and what is in it, for a careless order")
    (root / "src/app.py").write_text("print()\n")
    (root / "src/deep/large").write_bytes(os.urandom(200_000))
    (root / "link").symlink_to("src/app.py")
    (root / "src/app.py").chmod(0o755)
    os.utime(root / "src/deep", (1_000_000_000, 1_000_000_000))
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    root = tmp_path / "target"
    root.mkdir()
    return root


def fetch(sessions: Sessions, wanted: Wanted, target: Path, scope: Scope | None = None) -> None:
    with scope or Scope() as own:
        receive(caller(sessions), wanted, target, scope=own)


def caller(sessions: Sessions) -> Caller:
    found = sessions.get("the-session", wait_s=5)
    assert found is not None
    return found


def shown(root: Path) -> list[tuple[str, int, int, str]]:
    return [(s.path, s.mode, 0 if s.mode >> 27 & 1 else s.modTime, s.linkname) for s in walk(root)]


def test_a_directory_arrives_as_it_is(connect: Connect, sessions: Sessions, context: Path, target: Path) -> None:
    with connect(directories={"context": context}):
        fetch(sessions, CONTEXT, target)
    assert shown(target) == shown(context)
    assert (target / "src/deep/large").read_bytes() == (context / "src/deep/large").read_bytes()


def test_only_what_has_changed_is_sent_again(connect: Connect, sessions: Sessions, context: Path, target: Path) -> None:
    with connect(directories={"context": context}) as client:
        fetch(sessions, CONTEXT, target)
        client.sent.clear()
        (context / "src/app.py").write_text("print(1)\n")
        (context / "src.txt").unlink()
        (context / "link").unlink()
        (context / "link").mkdir()
        fetch(sessions, CONTEXT, target)
    assert client.sent == ["src/app.py"]
    assert shown(target) == shown(context)


def test_all_is_sent_where_times_do_not_count(
    connect: Connect, sessions: Sessions, context: Path, target: Path
) -> None:
    with connect(directories={"context": context}) as client:
        fetch(sessions, CONTEXT, target)
        client.sent.clear()
        fetch(sessions, Wanted("context", anew=True), target)
    assert sorted(client.sent) == ["src.txt", "src/app.py", "src/deep/large"]


def test_the_client_is_told_what_is_wanted(connect: Connect, sessions: Sessions, context: Path, target: Path) -> None:
    wanted = Wanted("context", include=("*.py", "größe"), exclude=("a b", "c%d"), follow=("src",))
    with connect(directories={"context": context}) as client:
        fetch(sessions, wanted, target)
    assert client.asked[0]["include-patterns"] == ["*.py", "größe"]
    assert client.asked[0]["exclude-patterns"] == ["a b", "c%d"]
    assert client.asked[0]["followpaths"] == ["src"]


def test_a_description_has_every_entry_and_the_contents_that_were_asked_for(
    connect: Connect, sessions: Sessions, context: Path, target: Path
) -> None:
    with connect(directories={"context": context}) as client:
        fetch(sessions, Wanted("context", described=True, contents=("src/app.py",)), target)
    assert client.sent == ["src/app.py"]
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*")) == [
        ".fsutil-metadata",
        "src",
        "src/app.py",
    ]
    described = list(records((target / ".fsutil-metadata").read_bytes()))
    assert described == list(walk(context))


def records(data: bytes) -> Iterator[Stat]:
    while data:
        (size,) = struct.unpack_from("<I", data)
        yield Stat.FromString(data[4 : 4 + size])
        data = data[4 + size :]


def test_a_directory_that_is_not_lent_is_named(connect: Connect, sessions: Sessions, target: Path) -> None:
    with connect(), pytest.raises(KnarrError, match='no access allowed to dir "context"'):
        fetch(sessions, CONTEXT, target)


FILE, DIRECTORY, LINK = 0o644, 1 << 31 | 0o755, 1 << 27 | 0o777


@pytest.mark.parametrize(
    "stats",
    [
        [Stat(path="../escaped", mode=FILE)],
        [Stat(path="/escaped", mode=FILE)],
        [Stat(path="a/../../escaped", mode=FILE)],
        [Stat(path="..", mode=DIRECTORY), Stat(path="../escaped", mode=FILE)],
        [Stat(path="nobody/told", mode=FILE)],
        [Stat(path="", mode=DIRECTORY)],
        [Stat(path=".", mode=DIRECTORY)],
        [Stat(path="nul\0nul", mode=FILE)],
        [Stat(path="b", mode=FILE), Stat(path="a", mode=FILE)],
        [Stat(path="a", mode=FILE), Stat(path="a", mode=FILE)],
        [Stat(path="d", mode=LINK, linkname="/tmp"), Stat(path="d/escaped", mode=FILE)],
        [Stat(path="hard", mode=FILE, linkname="../../escaped")],
        [Stat(path="hard", mode=FILE, linkname="later"), Stat(path="later", mode=FILE)],
    ],
)
def test_a_client_that_leads_out_of_the_directory_is_refused(
    connect: Connect, sessions: Sessions, tmp_path: Path, target: Path, stats: list[Stat]
) -> None:
    def lie(root: Path, requests: Iterator[Packet]) -> Iterator[Packet]:
        yield from (Packet(type=Packet.PACKET_STAT, stat=stat) for stat in stats)
        yield Packet(type=Packet.PACKET_STAT)
        yield from (Packet(type=Packet.PACKET_DATA, ID=request.ID) for request in requests)

    client = connect(directories={"context": tmp_path})
    client.packets = lie
    with client, pytest.raises(KnarrError, match="the client sent"):
        fetch(sessions, CONTEXT, target)
    assert not list(tmp_path.rglob("escaped"))


def test_what_is_written_through_a_link_that_was_here_before_stays_inside(
    connect: Connect, sessions: Sessions, context: Path, target: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (target / "src").symlink_to(outside)
    with connect(directories={"context": context}):
        fetch(sessions, CONTEXT, target)
    assert not list(outside.iterdir())
    assert shown(target) == shown(context)


@pytest.mark.parametrize(
    "packets",
    [
        [],
        [Packet(type=Packet.PACKET_STAT, stat=Stat(path="a", mode=FILE, size=3)), Packet(type=Packet.PACKET_STAT)],
        [Packet(type=Packet.PACKET_ERR, data=b"the disk is gone")],
        [Packet(type=Packet.PACKET_DATA, ID=7, data=b"?")],
    ],
)
def test_a_transfer_that_breaks_off_is_no_success(
    connect: Connect, sessions: Sessions, tmp_path: Path, target: Path, packets: list[Packet]
) -> None:
    client = connect(directories={"context": tmp_path})
    client.packets = lambda root, requests: iter(packets)
    with client, pytest.raises(KnarrError, match="the client"):
        fetch(sessions, CONTEXT, target)


def test_a_cancelled_build_does_not_wait_for_a_client_that_stalls(
    connect: Connect, sessions: Sessions, tmp_path: Path, target: Path
) -> None:
    def stall(root: Path, requests: Iterator[Packet]) -> Iterator[Packet]:
        scope.cancel()
        yield from (packet for packet in requests)

    client = connect(directories={"context": tmp_path})
    client.packets = stall
    scope = Scope()
    with client, pytest.raises(Cancelled):
        fetch(sessions, CONTEXT, target, scope)


def test_a_client_that_vanishes_ends_what_was_asked_of_it(
    connect: Connect, sessions: Sessions, tmp_path: Path, target: Path
) -> None:
    def vanish(root: Path, requests: Iterator[Packet]) -> Iterator[Packet]:
        client.call.cancel()
        yield from (packet for packet in requests)

    client: Client = connect(directories={"context": tmp_path})
    client.packets = vanish
    with client, pytest.raises((KnarrError, Cancelled)):
        fetch(sessions, CONTEXT, target)
