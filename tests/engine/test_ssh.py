"""Agents in steps: OpenSSH's own programs inside a container, against a real sshd outside."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Image
from tests.ops.servers import Work, git_server
from tests.ops.sshserver import SshServer, make_key, ssh_agent, ssh_server

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    with ssh_server(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    """A context with the machine's ssh and ssh-add, and the libraries they need."""
    root = tmp_path / "context"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nbuilder:x:7:7::/:/bin/sh\n")
    for program in ("ssh", "ssh-add"):
        path = shutil.which(program)
        assert path is not None
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for file in (path, *(word for word in listed.split() if word.startswith("/"))):
            (root / file[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file[1:])
    return root


HEAD = "FROM busybox\nCOPY . /\n"


def leftovers(image: Image) -> set[str]:
    return {path for path in image.files if path.startswith("run") or "ssh_agent" in path}


def test_a_step_logs_in_with_the_key_that_is_lent(knarr: Knarr, clients: Path, sshd: SshServer) -> None:
    login = f"ssh -o StrictHostKeyChecking=no root@{sshd.host} echo hello"
    text = f"{HEAD}RUN --mount=type=ssh,required {login} > /out && echo $SSH_AUTH_SOCK >> /out\n"
    image = knarr.build(text, f"--ssh=default={sshd.key}", context=clients)
    assert image.contents["out"] == b"hello\n/run/buildkit/ssh_agent.0\n"
    assert leftovers(image) == set()
    assert not any(sshd.key.read_text().splitlines()[1].encode() in data for data in image.contents.values())


def test_agents_by_id_with_owner_mode_and_place(
    knarr: Knarr, clients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_key(tmp_path / "one"), make_key(tmp_path / "two", "-t", "ecdsa")
    step = (
        "RUN --mount=type=ssh,id=one,target=/a/sock,uid=7,gid=8,mode=0660 --mount=type=ssh,id=two"
        " stat -c '%a %u %g' /a/sock > /out; ssh-add -l >> /out;"
        " SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 ssh-add -l >> /out\n"
    )
    with ssh_agent(tmp_path, two) as agent:
        knarr.env["SSH_AUTH_SOCK"] = str(agent)
        image = knarr.build(HEAD + step, f"--ssh=one={one}", "--ssh=two", context=clients)
    lines = image.contents["out"].decode().splitlines()
    assert lines[0] == "660 7 8"
    assert [line.rpartition(" ")[2] for line in lines[1:]] == ["(ED25519)", "(ECDSA)"]
    assert "a" not in image.files


def test_another_user_than_root_needs_to_be_named(knarr: Knarr, clients: Path, sshd: SshServer) -> None:
    text = f"{HEAD}USER builder\nRUN --mount=type=ssh ! ssh-add -l\nRUN --mount=type=ssh,uid=7 ssh-add -l\n"
    knarr.run(*knarr.command(text, f"--ssh=default={sshd.key}", context=clients))


def test_what_is_not_lent_is_told_where_it_is_required(knarr: Knarr, clients: Path) -> None:
    knarr.build(f"{HEAD}RUN --mount=type=ssh test ! -e $SSH_AUTH_SOCK\n", context=clients)
    done = knarr.run(*knarr.command("FROM busybox\nRUN --mount=type=ssh,id=git,required true\n"), check=False)
    assert done.returncode == 1
    assert "Dockerfile.test:2" in done.stderr
    assert 'error: no SSH key "git" forwarded' in done.stderr
    assert "hint: pass --ssh git, or --ssh git=KEYFILE" in done.stderr


def test_who_lends_is_not_part_of_the_cache_key(knarr: Knarr, clients: Path, tmp_path: Path, sshd: SshServer) -> None:
    command = knarr.command(f"{HEAD}RUN --mount=type=ssh ssh-add -l > /out\n", context=clients)
    knarr.run(*command, f"--ssh=default={sshd.key}")
    again = knarr.run(*command, f"--ssh=default={make_key(tmp_path / 'other')}")
    assert again.stderr.count("CACHED") == 2


def test_what_cannot_be_lent(knarr: Knarr, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    knarr.env.pop("SSH_AUTH_SOCK", None)
    for value, message in (
        ("default", "--ssh default: SSH_AUTH_SOCK is not set, so there is no agent"),
        ("x=/nowhere/key", "--ssh x=/nowhere/key: /nowhere/key: No such file or directory"),
        (f"x={key}.pub", f"--ssh x: {key}.pub is no private key"),
    ):
        done = knarr.run(*knarr.command("FROM scratch\nCOPY <<A /\nA\n"), f"--ssh={value}", check=False)
        assert (done.returncode, message in done.stderr, "hint: " in done.stderr or "nowhere" in value) == (
            2,
            True,
            True,
        )


def test_a_private_repository_by_ssh_as_context_and_in_add(knarr: Knarr, sshd: SshServer, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with git_server(tmp_path / "served") as http:
        work = Work(tmp_path / "work", http, "app")
        url = sshd.url(http.root / "app.git")
        work.commit({"Dockerfile": f"FROM scratch\nCOPY a /a\nADD {url}#main:sub /sub\n", "a": "a\n", "sub/b": "b\n"})
        archive = tmp_path / "out.tar"
        for context in (url, f"ssh://root@{sshd.host}:22{http.root}/app.git?branch=main"):
            knarr.run("build", f"--ssh=default={sshd.key}", "-o", f"type=oci,dest={archive}", context)
            names = subprocess.run(["tar", "-tf", archive], capture_output=True, text=True, check=True).stdout
            assert "index.json" in names
        refused = knarr.run("build", url, check=False)
        assert f"{url}: needs an ssh agent" in refused.stderr
        image = knarr.build(
            "FROM scratch\nCOPY --from=repo a /a\n", f"--build-context=repo={url}", f"--ssh=default={sshd.key}"
        )
        assert image.contents == {"a": b"a\n"}
