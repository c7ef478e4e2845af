"""Repositories by ssh: a real sshd, a real git, and host keys that change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.errors import KnarrError, UsageError
from knarr.ops.world import World
from knarr.record import replace
from knarr.session.dockerconfig import DockerConfig
from knarr.session.local import LocalSession, SshSource

from .conftest import listing
from .servers import GitServer, Work, git_server
from .sshserver import SshServer, make_key, ssh_agent, ssh_server
from .test_source_git import resolve

pytestmark = [pytest.mark.root, pytest.mark.system]


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    with ssh_server(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def http(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir()
    with git_server(tmp_path / "served") as server:
        yield server


@pytest.fixture
def work(tmp_path: Path, http: GitServer) -> Work:
    work = Work(tmp_path / "work", http, "app")
    work.commit({"a": "a\n"})
    return work


def lending(world: World, source: SshSource, known_hosts: Path | None = None) -> World:
    session = LocalSession({}, {}, DockerConfig(()), ssh={"default": source}, known_hosts=known_hosts)
    return replace(world, session=session)


def fetched(world: World, text: str, **attrs: str) -> Path:
    name = f"fetched-{len(list(world.snapshotter.walk()))}"
    resolve(world, text, **attrs).make(name)
    return world.snapshotter.layers(name)[0]


def tree(world: World, text: str) -> dict[str, str]:
    return listing(fetched(world, text))


def served(http: GitServer, name: str = "app") -> Path:
    return http.root / f"{name}.git"


def test_both_forms_of_url_with_a_key_from_a_file(overlay: World, sshd: SshServer, http: GitServer, work: Work) -> None:
    world = lending(overlay, SshSource((sshd.key,)))
    head = work.git("rev-parse", "HEAD")
    assert resolve(world, sshd.url(served(http))).key == f"git:{head}"
    assert tree(world, sshd.url(served(http))) == {"a": "a\n"}
    assert tree(world, f"ssh://root@{sshd.host}:22{served(http)}#main") == {"a": "a\n"}


def test_the_caller_s_own_agent(overlay: World, sshd: SshServer, http: GitServer, work: Work, tmp_path: Path) -> None:
    with ssh_agent(tmp_path, sshd.key) as agent:
        assert tree(lending(overlay, SshSource(socket=agent)), sshd.url(served(http))) == {"a": "a\n"}


def test_a_kept_git_directory_tells_where_it_is_from(
    overlay: World, sshd: SshServer, http: GitServer, work: Work
) -> None:
    url = f"ssh://root@{sshd.host}{served(http)}"
    kept = fetched(lending(overlay, SshSource((sshd.key,))), url, keepgitdir="true")
    assert f"url = {url}\n" in (kept / ".git/config").read_text()


def test_without_an_agent_it_is_told_which(overlay: World, sshd: SshServer, http: GitServer) -> None:
    with pytest.raises(UsageError, match=f"root@{sshd.host}:.*: needs an ssh agent") as caught:
        resolve(overlay, sshd.url(served(http)))
    assert "--ssh default" in caught.value.hint


def test_a_key_that_is_not_accepted(overlay: World, sshd: SshServer, http: GitServer, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(KnarrError, match="none of the keys that are lent is accepted"):
        resolve(lending(overlay, SshSource((stranger,))), sshd.url(served(http)))


def test_a_host_that_cannot_be_reached(overlay: World, sshd: SshServer) -> None:
    with pytest.raises(KnarrError, match=r"ssh: connect to host .* Connection refused"):
        resolve(lending(overlay, SshSource((sshd.key,))), f"ssh://root@{sshd.host}:1/app.git")


def test_a_repository_that_is_not_there(overlay: World, sshd: SshServer) -> None:
    with pytest.raises(KnarrError, match="does not appear to be a git repository"):
        resolve(lending(overlay, SshSource((sshd.key,))), sshd.url(Path("/nowhere/app.git")))


def test_another_host_key_than_the_first_is_noticed(
    overlay: World, tmp_path: Path, http: GitServer, work: Work
) -> None:
    (tmp_path / "sshd").mkdir()
    server = SshServer(tmp_path / "sshd")
    world = lending(overlay, SshSource((server.key,)))
    url = server.url(served(http))
    with server.running():
        resolve(world, url)
    server.new_host_key()
    with server.running(), pytest.raises(KnarrError, match="its host key is not the one that is known") as caught:
        resolve(world, url)
    met = world.settings.root / "git/known_hosts"
    assert str(met) in caught.value.hint
    met.unlink()
    with server.running():
        assert resolve(world, url).key


def test_the_caller_s_known_hosts_decide(
    overlay: World, tmp_path: Path, sshd: SshServer, http: GitServer, work: Work
) -> None:
    known = tmp_path / "known_hosts"
    url = sshd.url(served(http))
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text().split()
    known.write_text(f"{sshd.host} {other[0]} {other[1]}\n")
    with pytest.raises(KnarrError, match="its host key is not the one that is known"):
        resolve(lending(overlay, SshSource((sshd.key,)), known), url)
    known.write_text(sshd.known_host)
    assert resolve(lending(overlay, SshSource((sshd.key,)), known), url).key
    assert not (overlay.settings.root / "git/known_hosts").exists()


def test_host_keys_of_the_definition_go_before_all(
    overlay: World, tmp_path: Path, sshd: SshServer, http: GitServer, work: Work
) -> None:
    world = lending(overlay, SshSource((sshd.key,)))
    url = sshd.url(served(http))
    assert resolve(world, url, knownsshhosts=sshd.known_host).key
    for pinned in ("example.com ssh-ed25519 AAAA\n", "nonsense"):
        with pytest.raises(KnarrError, match="its host key is not the one that is known"):
            resolve(world, url, knownsshhosts=pinned)


def test_a_submodule_by_ssh_of_a_repository_by_http(
    overlay: World, tmp_path: Path, sshd: SshServer, http: GitServer, work: Work
) -> None:
    inner = Work(tmp_path / "inner", http, "inner")
    inner.commit({"i": "i\n"})
    work.git("submodule", "--quiet", "add", inner.url, "in")
    work.git("config", "-f", ".gitmodules", "submodule.in.url", sshd.url(served(http, "inner")))
    work.commit({})
    with pytest.raises(KnarrError, match="a submodule would be fetched by ssh") as caught:
        tree(overlay, work.url)
    assert "--ssh default" in caught.value.hint
    assert tree(lending(overlay, SshSource((sshd.key,))), work.url)["in/i"] == "i\n"
