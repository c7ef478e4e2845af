"""Agents lent to a build, as OpenSSH's own ssh-add sees them."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.ops.sshsocket import lent_socket
from knarr.scope import Scope
from knarr.session.local import SshSource
from knarr.session.sshagent import open_agent

from .sshserver import ask_agent, make_key, ssh_agent

pytestmark = pytest.mark.system

KINDS = {
    "ed25519": ("-t", "ed25519"),
    "rsa": ("-t", "rsa", "-b", "2048"),
    "rsa-pem": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "rsa-pkcs8": ("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
    "ecdsa-256": ("-t", "ecdsa", "-b", "256"),
    "ecdsa-384": ("-t", "ecdsa", "-b", "384"),
    "ecdsa-521": ("-t", "ecdsa", "-b", "521", "-m", "PEM"),
}


@contextmanager
def lent(place: Path, source: SshSource) -> Iterator[Path]:
    with Scope() as scope, lent_socket(place / "state", open_agent("default", source, b""), scope) as door:
        yield Path(door.short)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "key")


@pytest.mark.parametrize("kind", KINDS)
def test_keys_from_files_sign_as_ssh_add_wants_it(tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path / "key", *KINDS[kind])
    with lent(tmp_path, SshSource((key,))) as agent:
        # -T makes the agent sign, and checks the signature with the public key.
        tested = ask_agent(agent, "-T", f"{key}.pub", check=False)
        assert tested.returncode == 0, tested.stderr
        listed = ask_agent(agent, "-L").stdout.split()
    assert listed[:2] == key.with_suffix(".pub").read_text().split()[:2]


def test_the_numbers_of_an_ecdsa_signature_keep_their_sign(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", *KINDS["ecdsa-256"])
    with lent(tmp_path, SshSource((key,))) as agent:
        for _ in range(24):  # every other number begins with a set bit
            assert ask_agent(agent, "-T", f"{key}.pub", check=False).returncode == 0


def test_several_keys_are_one_agent(tmp_path: Path, key: Path) -> None:
    other = make_key(tmp_path / "other", *KINDS["rsa"])
    with lent(tmp_path, SshSource((key, other))) as agent:
        assert len(ask_agent(agent, "-l").stdout.splitlines()) == 2
        assert ask_agent(agent, "-T", f"{other}.pub", check=False).returncode == 0


def test_another_agent_is_passed_on(tmp_path: Path, key: Path) -> None:
    with ssh_agent(tmp_path, key) as own, lent(tmp_path, SshSource(socket=own)) as agent:
        assert ask_agent(agent, "-T", f"{key}.pub", check=False).returncode == 0
        assert ask_agent(agent, "-l").stdout == ask_agent(own, "-l").stdout


@pytest.mark.parametrize("argv", [["-D"], ["-x"], ["-d", "KEY"], ["KEY"]])
def test_who_is_lent_an_agent_cannot_change_it(tmp_path: Path, key: Path, argv: list[str]) -> None:
    with ssh_agent(tmp_path, key) as own:
        for source in (SshSource(socket=own), SshSource((key,))):
            with lent(tmp_path, source) as agent:
                words = [word.replace("KEY", str(key)) for word in argv]
                assert ask_agent(agent, *words, check=False).returncode != 0
                assert len(ask_agent(agent, "-l").stdout.splitlines()) == 1


def test_the_socket_is_the_user_s_who_asked_and_goes_with_the_block(tmp_path: Path, key: Path) -> None:
    agent = open_agent("default", SshSource((key,)), b"")
    with Scope() as scope, lent_socket(tmp_path, agent, scope, mode=0o640) as door:
        found = door.path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o640
        assert (found.st_uid, found.st_gid) == (0, 0)
    assert list((tmp_path / "run/agents").glob("*/*")) == []


@pytest.mark.root
def test_who_is_not_root_lends_an_agent_too(tmp_path: Path, key: Path) -> None:
    agent = open_agent("default", SshSource((key,)), b"")
    place = Path(tempfile.mkdtemp())
    os.chown(place, 65534, 65534)
    child = os.fork()
    if not child:
        os.setgid(65534)
        os.setuid(65534)
        with Scope() as scope, lent_socket(place, agent, scope) as door:
            os._exit(0 if "ED25519" in ask_agent(door.path, "-l", check=False).stdout else 3)
    assert os.waitpid(child, 0)[1] == 0
    shutil.rmtree(place)


def test_a_state_directory_may_have_a_long_path(tmp_path: Path, key: Path) -> None:
    place = tmp_path.joinpath(*["a-directory-with-a-name"] * 6)
    agent = open_agent("default", SshSource((key,)), b"")
    with Scope() as scope, lent_socket(place, agent, scope) as door:
        assert len(str(door.path)) > 107
        assert "ED25519" in ask_agent(door.short, "-l").stdout


@pytest.mark.parametrize(
    "garbage", [b"", b"\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\5\x0d\xff\xff\xff\xff", b"\0\0\0\1\x0b"]
)
def test_garbage_neither_hangs_nor_harms(tmp_path: Path, key: Path, garbage: bytes) -> None:
    with lent(tmp_path, SshSource((key,))) as agent:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(agent))
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
        assert "ED25519" in ask_agent(agent, "-l").stdout


def test_an_agent_that_does_not_answer_keeps_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        with lent(tmp_path, SshSource(socket=tmp_path / "silent")) as agent, socket.socket(socket.AF_UNIX) as client:
            client.connect(str(agent))
            client.sendall(struct.pack(">IB", 1, 11))
        # Leaving the block has waited for the thread that asked.


def test_keys_that_cannot_be_lent_are_refused_in_words(tmp_path: Path, key: Path) -> None:
    locked = make_key(tmp_path / "locked", passphrase="s3cret")
    (tmp_path / "text").write_text("nothing")
    for path, message in (
        (locked, "locked is protected by a passphrase"),
        (Path(f"{key}.pub"), "key.pub is no private key"),
        (tmp_path / "text", "text is no private key"),
        (tmp_path / "none", "none: No such file"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            open_agent("default", SshSource((path,)), b"")
        assert caught.value.hint or "No such file" in message
    with pytest.raises(UsageError, match=r"no agent at .*/gone"):
        open_agent("default", SshSource(socket=tmp_path / "gone"), b"")
