"""Repositories as sources: from a real `git http-backend` into real snapshots."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.cache.store import CacheStore
from knarr.errors import Cancelled, ContentError, KnarrError, Unsupported, UsageError
from knarr.frontend.dockerfile.giturl import parse_git_url
from knarr.llb.ops import SourceOp
from knarr.ops import gitcheckout, source_git
from knarr.ops.fetched import Fetched
from knarr.ops.world import World
from knarr.record import replace
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials, Secret

from .conftest import listing
from .servers import OLD, GitServer, Work, git_server, secure

pytestmark = [pytest.mark.root, pytest.mark.system]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir()
    with git_server(tmp_path / "served") as server:
        yield server


@pytest.fixture
def work(tmp_path: Path, server: GitServer) -> Work:
    work = Work(tmp_path / "work", server, "app")
    work.commit({"a": "a\n", "sub/b": "b\n", "sub/deep/c": "c\n"})
    return work


def source(text: str, **attrs: str) -> SourceOp:
    url = parse_git_url(text)
    assert url is not None
    return SourceOp(url.identifier, {**url.attrs, **{f"git.{name}": value for name, value in attrs.items()}})


def resolve(world: World, text: str, **attrs: str) -> Fetched:
    return source_git.resolve(replace(world, answers={}), source(text, **attrs), "v")  # each time a build of its own


Fetch = Callable[..., Path]


@pytest.fixture
def fetch(overlay: World) -> Fetch:
    """A function that gives the tree of a URL."""
    count = iter(range(100))

    def fetched(text: str, **attrs: str) -> Path:
        name = f"fetched-{next(count)}"
        resolve(overlay, text, **attrs).make(name)
        overlay.trees.save_chain([(name, ())], description="")  # type: ignore[attr-defined]
        return overlay.snapshotter.layers(name)[0]

    return fetched


class Lending:
    """A session that lends secrets."""

    def __init__(self, **secrets: str) -> None:
        self.secrets = secrets

    def secret(self, id: str) -> Secret | None:
        return Secret(self.secrets[id].encode()) if id in self.secrets else None

    def ssh(self, id: str) -> None:
        return None


def lending(world: World, **secrets: str) -> World:
    return replace(world, session=Lending(**secrets))


def test_the_default_branch_comes_without_its_git_directory(fetch: Fetch, work: Work) -> None:
    assert listing(fetch(work.url)) == {"a": "a\n", "sub/": "", "sub/b": "b\n", "sub/deep/": "", "sub/deep/c": "c\n"}


def test_modes_are_0644_and_0755_under_any_umask(fetch: Fetch, work: Work) -> None:
    (work.root / "run.sh").write_text("#!/bin/sh\n")
    os.chmod(work.root / "run.sh", 0o777)
    os.chmod(work.root / "a", 0o666)
    work.commit({})
    before = os.umask(0)
    try:
        tree = fetch(work.url)
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tree / name).lstat().st_mode) for name in ("a", "run.sh", "sub", "sub/deep", "sub/b")}
    assert modes == {"a": 0o644, "run.sh": 0o755, "sub": 0o755, "sub/deep": 0o755, "sub/b": 0o644}


def test_a_directory_of_it(fetch: Fetch, work: Work) -> None:
    assert listing(fetch(f"{work.url}#main:sub")) == {"b": "b\n", "deep/": "", "deep/c": "c\n"}


@pytest.mark.parametrize("ref", ["one", "refs/heads/one", "v1", "refs/tags/v1", "light"])
def test_branches_and_tags_by_name(fetch: Fetch, work: Work, ref: str) -> None:
    work.git("checkout", "-q", "-b", "one")
    work.commit({"a": "one\n"})
    work.git("tag", "-a", "-m", "a tag", "v1")
    work.git("tag", "light")
    work.git("checkout", "-q", "main")
    work.publish()
    assert (fetch(f"{work.url}#{ref}") / "a").read_text() == "one\n"


def test_a_branch_goes_before_a_tag_of_its_name(fetch: Fetch, work: Work) -> None:
    work.git("tag", "both")
    work.git("checkout", "-q", "-b", "both")
    work.commit({"a": "branch\n"})
    assert (fetch(f"{work.url}#refs/heads/both") / "a").read_text() == "branch\n"
    assert (fetch(f"{work.url}#both") / "a").read_text() == "branch\n"


def test_an_old_commit_by_its_id(fetch: Fetch, work: Work) -> None:
    old = work.git("rev-parse", "HEAD")
    work.commit({"a": "new\n"})
    assert (fetch(f"{work.url}#{old}") / "a").read_text() == "a\n"


def test_a_tag_that_moves_while_it_is_built_is_what_it_was_at_first(overlay: World, work: Work) -> None:
    work.git("tag", "-a", "v1", "-m", "first")
    work.publish()
    fetched = resolve(overlay, work.url + "#v1")
    work.commit({"a": "later\n"})
    work.git("tag", "-f", "-a", "v1", "-m", "second")
    work.publish()  # now no ref leads to the first tag object
    fetched.make("moved")
    overlay.trees.save_chain([("moved", ())], description="")  # type: ignore[attr-defined]
    assert (overlay.snapshotter.layers("moved")[0] / "a").read_text() == "a\n"


def test_objects_are_told_as_git_keeps_them(overlay: World, work: Work) -> None:
    commit = work.git("rev-parse", "HEAD")
    work.git("tag", "-a", "v1", "-m", "first \xe9")
    work.publish()
    tag = work.git("rev-parse", "v1")
    assert [object_id(data) for data in objects(overlay, work.url + "#v1")] == [commit, tag]
    assert [object_id(data) for data in objects(overlay, work.url)] == [commit, None]


def objects(world: World, text: str) -> tuple[bytes, bytes]:
    asked = source_git.parse(source(text))
    git = source_git.git_for(world, asked)
    return gitcheckout.raw_objects(world.settings.root, git, source_git.find_tip(git, asked))


def object_id(data: bytes) -> str | None:
    """As git hashes a commit or a tag."""
    kind = b"tag" if data.startswith(b"object ") else b"commit"
    return hashlib.sha1(b"%s %d\0%s" % (kind, len(data), data)).hexdigest() if data else None


def test_the_key_is_the_commit_and_what_is_taken_of_it(overlay: World, work: Work) -> None:
    head = work.git("rev-parse", "HEAD")
    work.git("tag", "-a", "-m", "a tag", "v1")
    work.publish()
    plain = f"git:{head}"
    assert resolve(overlay, work.url).key == plain
    assert resolve(overlay, f"{work.url}#v1").key == plain
    assert resolve(overlay, f"{work.url}#{head}").key == plain
    assert resolve(overlay, f"{work.url}#main:sub").key == f"{plain}:sub"
    assert resolve(overlay, f"{work.url}?submodules=false").key == f"{plain}(skip-submodules)"
    assert resolve(overlay, f"{work.url}?keep-git-dir=true").key != plain


def test_a_commit_is_believed_without_asking(overlay: World, server: GitServer, work: Work) -> None:
    head = work.git("rev-parse", "HEAD")
    before = server.requests
    assert resolve(overlay, f"{work.url}#{head}").pinned
    assert server.requests == before
    assert not resolve(overlay, f"{work.url}#main").pinned
    assert server.requests > before


def test_a_commit_that_is_in_the_mirror_is_not_fetched_again(fetch: Fetch, server: GitServer, work: Work) -> None:
    head = work.git("rev-parse", "HEAD")
    fetch(f"{work.url}#{head}")
    before = server.requests
    assert (fetch(f"{work.url}#{head}:sub") / "b").read_text() == "b\n"
    assert server.requests == before


def test_a_branch_that_moved_back_and_forth(fetch: Fetch, work: Work) -> None:
    assert (fetch(work.url) / "a").read_text() == "a\n"
    work.commit({"a": "new\n"})
    assert (fetch(work.url) / "a").read_text() == "new\n"
    work.git("reset", "-q", "--hard", "HEAD~1")
    work.publish()
    assert (fetch(work.url) / "a").read_text() == "a\n"


def test_the_git_directory_is_kept_when_asked_for(fetch: Fetch, work: Work) -> None:
    work.git("tag", "-a", "-m", "a tag", "v1")
    work.publish()
    tree = fetch(f"{work.url}#v1", keepgitdir="true")
    git = Work.__new__(Work)
    git.root = tree
    assert git.git("-c", "safe.directory=*", "rev-parse", "HEAD") == work.git("rev-parse", "HEAD")
    assert git.git("-c", "safe.directory=*", "describe") == "v1"
    assert git.git("-c", "safe.directory=*", "status", "--porcelain") == ""
    assert git.git("-c", "safe.directory=*", "config", "remote.origin.url") == work.url


def test_times_can_be_the_commit_s(fetch: Fetch, work: Work) -> None:
    tree = fetch(f"{work.url}?mtime=commit")
    assert {int(path.lstat().st_mtime) for path in (tree, *tree.rglob("*"))} == {OLD}


@pytest.fixture
def nested(tmp_path: Path, server: GitServer, work: Work) -> Work:
    """`work` with a submodule by a relative URL, which has a submodule itself."""
    inner = Work(tmp_path / "inner", server, "inner")
    inner.commit({"i": "inner\n"})
    outer = Work(tmp_path / "outer", server, "outer")
    outer.commit({"o": "outer\n"})
    outer.git("submodule", "--quiet", "add", inner.url, "in")
    outer.commit({})
    work.git("submodule", "--quiet", "add", outer.url, "out")
    work.git("config", "-f", ".gitmodules", "submodule.out.url", "../outer.git")
    work.commit({})
    return work


def test_submodules_come_with_it(fetch: Fetch, nested: Work) -> None:
    tree = fetch(nested.url)
    assert (tree / "out/o").read_text() == "outer\n"
    assert (tree / "out/in/i").read_text() == "inner\n"
    assert list(tree.rglob(".git")) == []


def test_a_submodule_may_come_from_a_plain_file_server(fetch: Fetch, work: Work, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    for command in (
        ("init", "--quiet", str(plain)),
        (
            "-C",
            str(plain),
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "--quiet",
            "--allow-empty",
            "-m",
            "1",
        ),
        ("-C", str(plain), "update-server-info"),
    ):
        subprocess.run(["git", *command], check=True)
    (plain / ".git/objects/info").mkdir(exist_ok=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(plain))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        try:
            work.git("submodule", "--quiet", "add", f"http://127.0.0.1:{files.server_port}/.git", "out")
            work.commit({"x": "x\n"})
            assert (fetch(work.url) / "out").is_dir()
        finally:
            files.shutdown()
            thread.join()


def test_submodules_can_be_left_out(fetch: Fetch, nested: Work) -> None:
    assert list((fetch(f"{nested.url}?submodules=false") / "out").iterdir()) == []


def test_a_submodule_cannot_lead_to_this_machine_s_files(fetch: Fetch, nested: Work, tmp_path: Path) -> None:
    nested.git("config", "-f", ".gitmodules", "submodule.out.url", str(tmp_path / "outer"))
    nested.commit({})
    with pytest.raises(KnarrError, match="a submodule would be fetched by file, which"):
        fetch(nested.url)


def test_a_subdir_cannot_lead_out_through_a_symlink(fetch: Fetch, work: Work) -> None:
    os.symlink("/etc", work.root / "out")
    work.commit({})
    with pytest.raises(ContentError, match="out leads through a symlink"):
        fetch(f"{work.url}#main:out")


def test_a_subdir_that_is_not_there(fetch: Fetch, work: Work) -> None:
    with pytest.raises(ContentError, match="nowhere is no directory of the repository"):
        fetch(f"{work.url}#main:nowhere")


def test_a_pinned_commit_is_compared(overlay: World, work: Work) -> None:
    head = work.git("rev-parse", "HEAD")
    assert resolve(overlay, work.url, checksum=head[:8]).key == f"git:{head}"
    with pytest.raises(KnarrError, match=rf"the default branch: expected checksum to match 0123, got {head}"):
        resolve(overlay, work.url, checksum="0123")


def test_a_ref_that_is_not_there(overlay: World, work: Work) -> None:
    with pytest.raises(KnarrError, match=r"/app.git: repository does not contain ref nowhere$"):
        resolve(overlay, f"{work.url}#nowhere")
    with pytest.raises(KnarrError) as caught:
        resolve(overlay, f"{work.url}#abcdef1")
    assert caught.value.hint == "a commit is named by its whole id of 40 digits"


def test_a_commit_that_is_not_there(fetch: Fetch, work: Work) -> None:
    with pytest.raises(KnarrError, match=r"there is no commit 0{40}|not our ref"):
        fetch(f"{work.url}#{'0' * 40}")


def test_a_repository_that_is_not_there(overlay: World, server: GitServer) -> None:
    with pytest.raises(KnarrError, match="not found"):
        resolve(overlay, server.url("nothing"))


def test_tokens_and_headers_are_lent(overlay: World, server: GitServer, work: Work) -> None:
    server.login = "basic " + base64.b64encode(b"x-access-token:s3cret").decode()
    head = work.git("rev-parse", "HEAD")
    for secrets in (
        {"GIT_AUTH_TOKEN": "s3cret"},
        {f"GIT_AUTH_TOKEN.{server.address}": "s3cret\n", "GIT_AUTH_TOKEN": "wrong"},
        {"GIT_AUTH_HEADER": server.login},
    ):
        assert resolve(lending(overlay, **secrets), work.url).key == f"git:{head}"


def test_without_a_login_it_does_not_ask_but_says_so(overlay: World, server: GitServer, work: Work) -> None:
    server.login = "basic eA=="
    for world in (overlay, lending(overlay, GIT_AUTH_TOKEN="wr0ng")):
        with pytest.raises(KnarrError, match="no such repository, or it wants another login") as caught:
            resolve(world, work.url)
        assert "--secret id=GIT_AUTH_TOKEN" in caught.value.hint
        assert "wr0ng" not in caught.value.render() + repr(caught.value.__dict__)


@pytest.mark.parametrize(
    ("text", "attrs", "error", "message"),
    [
        ("git@example.com:a/b.git", {}, UsageError, "needs an ssh agent"),
        ("ssh://git@example.com/a/b.git", {}, UsageError, "needs an ssh agent"),
        ("https://example.com/a.git", {"fullurl": "file:///etc"}, Unsupported, "file:///etc: not fetched"),
        ("https://example.com/a.git", {"fullurl": "ext::sh -c id"}, Unsupported, "not fetched"),
        ("https://example.com/a.git#--upload-pack=id", {}, UsageError, "no ref begins with a dash"),
        (
            "https://example.com/a.git",
            {"checksum": "main"},
            UsageError,
            "invalid checksum main: expected hex commit hash",
        ),
        ("https://example.com/a.git?fetch-by-commit=true", {}, UsageError, "needs the whole id"),
    ],
)
def test_what_is_refused(
    overlay: World, text: str, attrs: dict[str, str], error: type[KnarrError], message: str
) -> None:
    with pytest.raises(error, match=message):
        resolve(overlay, text, **attrs)


def test_users_and_passwords_are_not_shown(overlay: World, server: GitServer) -> None:
    with pytest.raises(KnarrError) as caught:
        resolve(overlay, f"http://user:s3cret@{server.address}/nothing.git")
    assert "s3cret" not in caught.value.render()


def test_a_mirror_that_is_damaged_is_made_anew(fetch: Fetch, overlay: World, work: Work) -> None:
    fetch(work.url)
    for pack in (overlay.settings.root / "git").glob("*/objects/pack/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"damaged")
    assert isinstance(overlay.cache, CacheStore)
    assert (fetch(f"{work.url}#main:sub") / "b").read_text() == "b\n"


def with_hosts(world: World, *hosts_dirs: Path) -> World:
    registry = Registry(RegistrySettings(hosts_dirs=tuple(map(str, hosts_dirs))), lambda _: Credentials())
    return replace(world, registry=lambda: registry)


def test_a_private_ca_is_trusted_where_registries_have_it(
    overlay: World, tmp_path: Path, server: GitServer, work: Work
) -> None:
    secure(server.server, tmp_path / "certs.d")
    url = work.url.replace("http://", "https://")
    with pytest.raises(KnarrError, match="certificate"):
        resolve(with_hosts(overlay), url)
    found = resolve(with_hosts(overlay, tmp_path / "certs.d"), url)
    assert found.key == f"git:{work.git('rev-parse', 'HEAD')}"


def test_cancelling_kills_a_git_that_hangs(overlay: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/app.git"
        threading.Timer(0.3, overlay.scope.cancel).start()
        with pytest.raises(Cancelled):
            resolve(overlay, url)
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if url.encode() in _read(path)]
        assert left == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_builds_at_the_same_time_share_a_mirror(overlay: World, work: Work) -> None:
    commits = [work.commit({"a": f"{number}\n"}) for number in range(4)]

    def fetched(commit: str) -> str:
        resolve(overlay, f"{work.url}#{commit}").make(f"fetched-{commit}")
        return (overlay.snapshotter.layers(f"fetched-{commit}")[0] / "a").read_text()

    outcomes = [overlay.scope.start(fetched, commit) for commit in commits]
    assert [outcome.result() for outcome in outcomes] == ["0\n", "1\n", "2\n", "3\n"]
