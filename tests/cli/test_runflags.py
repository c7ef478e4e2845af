"""What the flags of `knarr run` ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.cli.attached import keys_of
from knarr.cli.flags import parse
from knarr.cli.leadingflags import split
from knarr.cli.runflags import FLAGS, asked, ports_of
from knarr.containers.create import Asked, described
from knarr.containers.spec import Port
from knarr.errors import UsageError
from knarr.spec.config import RunConfig


def wish(*argv: str, **environ: str) -> Asked:
    flags, words = split(FLAGS, list(argv))
    return asked(parse(FLAGS, flags, command="knarr run"), words, environ)


def test_flags_end_with_the_image() -> None:
    found = wish("-it", "--rm", "-e", "A=1", "--name=x", "-p8080:80", "app", "sh", "-c", "-x", "--rm=false")
    assert (found.image, found.args) == ("app", ("sh", "-c", "-x", "--rm=false"))
    assert (found.terminal, found.stdin, found.remove, found.name) == (True, True, True, "x")
    assert (found.env, found.ports) == (("A=1",), (Port(80, 8080),))
    assert wish("--rm", "--", "-odd").image == "-odd"


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [Port(80)]),
        ("8080:80", [Port(80, 8080)]),
        ("127.0.0.1:8080:80/udp", [Port(80, 8080, "127.0.0.1", "udp")]),
        ("127.0.0.1::80", [Port(80, 0, "127.0.0.1")]),
        ("[::1]:8080:80", [Port(80, 8080, "::1")]),
        ("1-2:3-4", [Port(3, 1), Port(4, 2)]),
    ],
)
def test_ports_are_written_as_with_docker(text: str, ports: list[Port]) -> None:
    assert ports_of(text) == ports


@pytest.mark.parametrize("text", ["", "0", "65536", "80/sctp", "a:80", "1-2:3", "2-1:2-1", "x:1:2", "-1:80"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ports_of(text)


def test_variables_come_from_files_from_here_and_from_the_line(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\n\n A=file\nHERE\nABSENT\nB=with # sign\n")
    found = wish("--env-file", str(tmp_path / "env"), "-e", "A=line", "-e", "GONE", "app", HERE="here")
    image = RunConfig(env=("PATH=/bin", "GONE=image", "A=image"), cmd=("true",))
    spec = described(found, image, id="ab", name="x")
    assert spec.env == ("PATH=/bin", "A=line", "HERE=here", "B=with # sign")


@pytest.mark.parametrize(
    ("entrypoint", "args", "ran"),
    [
        ([], [], ("entry", "cmd")),
        ([], ["other"], ("entry", "other")),
        (["--entrypoint", "new"], [], ("new",)),
        (["--entrypoint", "new"], ["x"], ("new", "x")),
        (["--entrypoint", ""], ["x"], ("x",)),
    ],
)
def test_entrypoint_and_command_follow_docker_s_rule(
    entrypoint: list[str], args: list[str], ran: tuple[str, ...]
) -> None:
    image = RunConfig(entrypoint=("entry",), cmd=("cmd",))
    assert described(wish(*entrypoint, "app", *args), image, id="ab", name="x").args == ran


def test_an_image_without_a_command_needs_one() -> None:
    with pytest.raises(UsageError, match="says nothing of what to run"):
        described(wish("app"), RunConfig(), id="ab", name="x")


def test_volumes_of_the_image_give_way_to_what_was_asked_for() -> None:
    image = RunConfig(cmd=("x",), volumes=("/data/", "/logs", "/"))
    spec = described(wish("-v", "mine:/data", "app"), image, id="ab", name="x")
    assert [(mount.target, mount.anonymous) for mount in spec.mounts] == [("/data", False), ("/logs", True)]


@pytest.mark.parametrize(("text", "keys"), [("ctrl-p,ctrl-q", b"\x10\x11"), ("a,ctrl-@", b"a\0"), ("", b"")])
def test_detach_keys_are_what_is_typed(text: str, keys: bytes) -> None:
    assert keys_of(text) == keys


def test_a_mount_that_would_pass_mounts_on_is_refused(tmp_path: Path) -> None:
    assert wish("--mount", f"type=bind,src={tmp_path},dst=/x,bind-propagation=rprivate", "app").mounts
    with pytest.raises(UsageError, match="mounts do not pass"):
        wish("--mount", f"type=bind,src={tmp_path},dst=/x,bind-propagation=rshared", "app")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("/t", "noexec,nosuid,nodev"),
        ("/t:exec,size=1m", "nosuid,nodev"),
        ("/t:exec,suid,dev", ""),
        ("/t:exec,noexec", "noexec,nosuid,nodev"),
    ],
)
def test_a_tmpfs_allows_what_it_is_told_to(text: str, options: str) -> None:
    (mount,) = wish("--tmpfs", text, "app").mounts
    assert mount.options == options
