"""A build's session whose caller is a client."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.buildkit.lent import RemoteSession
from knarr.buildkit.sessions import Sessions
from knarr.errors import Cancelled, KnarrError
from knarr.scope import Scope
from knarr.session.kept import Kept
from knarr.session.session import Credentials, Secret, Session, Taker, Wanted

from .conftest import Connect


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "locals")


@pytest.fixture
def session(sessions: Sessions, kept: Kept) -> Iterator[RemoteSession]:
    with RemoteSession(sessions, "the-session", kept, Scope()) as found:
        yield found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    (root / "file").write_text("content")
    return root


def test_it_is_a_session_and_a_taker(session: RemoteSession) -> None:
    lender: Session = session
    assert isinstance(lender, Taker)


def test_files_are_asked_for_once_in_a_build(connect: Connect, session: RemoteSession, context: Path) -> None:
    with connect(directories={"context": context}) as client:
        first = session.files(Wanted("context"))
        assert session.files(Wanted("context")) == first
    assert (first / "file").read_text() == "content"
    assert client.sent == ["file"]


def test_the_next_build_begins_where_the_last_one_ended(
    connect: Connect, sessions: Sessions, kept: Kept, context: Path
) -> None:
    with connect(directories={"context": context}) as client:
        for _ in range(2):
            with RemoteSession(sessions, "the-session", kept, Scope()) as build:
                build.files(Wanted("context"))
    assert client.sent == ["file"]


def test_two_builds_at_once_do_not_share_a_directory(
    connect: Connect, sessions: Sessions, session: RemoteSession, kept: Kept, context: Path
) -> None:
    with connect(directories={"context": context}):
        first = session.files(Wanted("context"))
        (context / "file").write_text("something else")
        with RemoteSession(sessions, "the-session", kept, Scope()) as second:
            assert (second.files(Wanted("context")) / "file").read_text() == "something else"
    assert (first / "file").read_text() == "content"


def test_what_could_not_be_sent_whole_is_not_kept(
    connect: Connect, session: RemoteSession, kept: Kept, context: Path
) -> None:
    client = connect(directories={"context": context})
    client.packets = lambda root, requests: iter(())
    with client, pytest.raises(KnarrError):
        session.files(Wanted("context"))
    assert not [found for found in kept.all() if found.path.exists()]


def test_secrets_and_logins_come_from_the_client(connect: Connect, session: RemoteSession) -> None:
    logins = {"registry.corp.example": ("alice", "pw"), "registry-1.docker.io": ("", "token")}
    with connect(secrets={"key": b"s3cret"}, logins=logins):
        assert session.secret("key") == Secret(b"s3cret")
        assert session.secret("other") is None
        assert session.credentials("registry.corp.example") == Credentials("alice", "pw")
        assert session.credentials("docker.io") == Credentials(identity_token="token")
        assert session.credentials("elsewhere.example").empty


def test_an_agent_answers_through_the_session(connect: Connect, session: RemoteSession) -> None:
    with connect():
        assert session.ssh("other") is None
        agent = session.ssh("")
        assert agent is not None
        near, far = socket.socketpair()
        with near, far, Scope() as scope:
            scope.attempt(agent.serve, far)
            near.sendall(b"sign this")
            assert near.recv(100) == b"SIGN THIS"
            near.shutdown(socket.SHUT_RDWR)


def test_a_stream_that_the_client_gives_once_may_be_read_again(connect: Connect, session: RemoteSession) -> None:
    data = os.urandom(100_000)
    with connect() as client:
        client.uploads["/the-context"] = data
        for _ in range(2):
            with session.upload("buildkit-session", "/the-context") as stream:
                assert stream.read(10) + stream.read() == data
        with pytest.raises(KnarrError, match="no http response"), session.upload("buildkit-session", "/other"):
            pass


def test_an_archive_goes_to_the_client_in_pieces(connect: Connect, session: RemoteSession) -> None:
    data = os.urandom(3_000_000)
    with connect() as client, session.take_file(1, {"containerimage.digest": "sha256:…"}) as out:
        out.write(data[:10])
        out.write(data[10:])
    assert client.files["1"] == data
    assert client.asked[0]["exporter-md-containerimage.digest"] == ["sha256:…"]


def test_a_directory_goes_to_the_client(connect: Connect, session: RemoteSession, context: Path) -> None:
    (context / "hard").hardlink_to(context / "file")
    (context / "link").symlink_to("file")
    (context / "empty").mkdir()
    with connect() as client:
        session.take_tree(9, {"linux_amd64": context}, epoch_ns=5, replaces=False)
    found = client.trees["9"]
    assert list(found) == [f"linux_amd64{name}" for name in ("", "/empty", "/file", "/hard", "/link")]
    assert found["linux_amd64/file"][1] == b"content"
    assert found["linux_amd64/hard"][0].linkname == "linux_amd64/file"
    assert found["linux_amd64/link"][0].linkname == "file"
    assert {stat.modTime for stat, _ in found.values()} == {5}


def test_an_output_that_the_client_refuses_fails(connect: Connect, session: RemoteSession) -> None:
    with connect() as client:
        client.leave()
        with pytest.raises((KnarrError, Cancelled)):
            give(session, megabytes=100)


def give(session: RemoteSession, megabytes: int) -> None:
    with session.take_file(1, {}) as out:
        for _ in range(megabytes):
            out.write(bytes(1 << 20))


def test_a_build_without_a_session_lends_nothing(sessions: Sessions, kept: Kept) -> None:
    with RemoteSession(sessions, "", kept, Scope()) as build:
        assert build.secret("key") is None
        assert build.credentials("registry.example").empty
        with pytest.raises(KnarrError, match="no active session"):
            build.files(Wanted("context"))
