"""ADD of URLs and of repositories, by the real command."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import open_archive
from tests.ops.servers import OLD, FileServer, GitServer, Page, Work, file_server, git_server

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir()
    with git_server(tmp_path / "served") as server:
        yield server


def test_add_of_a_url_follows_the_file(knarr: Knarr, files: FileServer) -> None:
    files.pages["/f"] = Page(b"one", etag='"1"', modified=OLD)
    text = f"FROM scratch\nADD {files.url('/f')} /d/\nADD --chmod=755 --chown=7:8 {files.url('/f')} /g\n"
    image = knarr.build(text)
    assert image.contents == {"d/f": b"one", "g": b"one"}
    assert image.mode("d/f") == (0o600, 0, 0)
    assert image.mode("g") == (0o755, 7, 8)
    assert image.files["d/f"].mtime == OLD
    files.pages["/f"] = Page(b"two", etag='"2"', modified=OLD + 1)
    assert knarr.build(text).contents == {"d/f": b"two", "g": b"two"}


def test_a_build_that_asks_a_server_is_never_taken_for_unchanged(knarr: Knarr, files: FileServer) -> None:
    files.pages["/f"] = Page(b"one", etag='"1"')
    command = knarr.command(f"FROM scratch\nADD {files.url('/f')} /\n", "-t", "app")
    knarr.run(*command)
    again = knarr.run(*command).stderr
    assert "#2 CACHED" in again
    assert files.statuses() == [200, 304]
    files.pages["/f"] = Page(b"two", etag='"2"')
    assert "CACHED" not in knarr.run(*command).stderr
    assert f"file f: content ({files.url('/f')})" in knarr.run("debug", "why", "ADD").stdout


def test_a_checksum_saves_the_question(knarr: Knarr, files: FileServer) -> None:
    files.pages["/f"] = Page(b"one")
    checksum = "sha256:" + hashlib.sha256(b"one").hexdigest()
    text = f"FROM scratch\nADD --checksum={checksum} {files.url('/f')} /\n"
    first = knarr.build(text)
    files.pages.clear()
    assert knarr.build(text).manifest == first.manifest


def test_a_wrong_checksum_points_at_its_line(knarr: Knarr, files: FileServer) -> None:
    files.pages["/f"] = Page(b"one")
    done = knarr.run(
        *knarr.command(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {files.url('/f')} /\n"), check=False
    )
    assert done.returncode == 1
    assert "Dockerfile.test:2" in done.stderr
    assert f"the checksum is sha256:{hashlib.sha256(b'one').hexdigest()}, but sha256:{'0' * 64}" in done.stderr


def test_add_of_a_repository(knarr: Knarr, repositories: GitServer, tmp_path: Path) -> None:
    work = Work(tmp_path / "work", repositories, "app")
    work.commit({"a": "a\n", "sub/b": "b\n"})
    text = f"FROM scratch\nADD {work.url} /all/\nADD {work.url}#main:sub /sub\n"
    image = knarr.build(text)
    assert image.contents == {"all/a": b"a\n", "all/sub/b": b"b\n", "sub/b": b"b\n"}
    assert image.mode("all/sub/b") == (0o644, 0, 0)
    assert "CACHED" in knarr.run(*knarr.command(text)).stderr
    work.commit({"a": "new\n"})
    assert knarr.build(text).contents["all/a"] == b"new\n"


def test_a_repository_behind_a_login(knarr: Knarr, repositories: GitServer, tmp_path: Path) -> None:
    work = Work(tmp_path / "work", repositories, "app")
    work.commit({"a": "a\n"})
    repositories.login = "basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"  # x-access-token:s3cret
    (tmp_path / "token").write_text("s3cret")
    text = f"FROM scratch\nADD {work.url} /\n"
    refused = knarr.run(*knarr.command(text), check=False)
    assert refused.returncode == 1
    assert "hint: lend a token: --secret id=GIT_AUTH_TOKEN" in refused.stderr
    image = knarr.build(text, f"--secret=id=GIT_AUTH_TOKEN,src={tmp_path / 'token'}")
    assert image.contents == {"a": b"a\n"}


def test_a_repository_serves_run_and_copy(knarr: Knarr, repositories: GitServer, tmp_path: Path) -> None:
    work = Work(tmp_path / "work", repositories, "app")
    work.commit({"a": "a\n"})
    text = f"FROM scratch AS src\nADD --keep-git-dir=true {work.url} /\nFROM busybox\n"
    text += "RUN --mount=from=src,target=/src cat /src/a /src/.git/HEAD > /out\n"
    assert knarr.build(text).contents["out"].decode().startswith("a\n" + work.git("rev-parse", "HEAD"))


def test_named_contexts_from_a_repository_and_a_url(
    knarr: Knarr, files: FileServer, repositories: GitServer, tmp_path: Path
) -> None:
    work = Work(tmp_path / "work", repositories, "app")
    work.commit({"a": "a\n"})
    files.pages["/x"] = Page(b"x")
    text = "FROM scratch\nCOPY --from=repo a /repo\nCOPY --from=one context /one\n"  # BuildKit's name for the file
    image = knarr.build(text, f"--build-context=repo={work.url}", f"--build-context=one={files.url('/x')}")
    assert image.contents == {"repo": b"a\n", "one": b"x"}


def test_a_repository_as_the_context(knarr: Knarr, repositories: GitServer, tmp_path: Path) -> None:
    work = Work(tmp_path / "work", repositories, "app")
    work.commit(
        {"Dockerfile": "FROM scratch\nCOPY . /\n", "sub/dockerfile": "FROM scratch\nCOPY b /\n", "sub/b": "b\n"}
    )
    assert set(built(knarr, work.url)) == {"Dockerfile", "sub/dockerfile", "sub/b"}
    assert built(knarr, f"{work.url}#main:sub") == {"b": b"b\n"}
    assert built(knarr, work.url, "-f", "sub/dockerfile", check="b: not") == {}
    assert built(knarr, work.url, "-f", "nowhere", check="has no nowhere at refs/heads/main") == {}
    assert ".git/HEAD" in built(knarr, f"{work.url}#main", "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    work.commit({"Dockerfile": "FROM scratch\nCOPY sub/b /new\n"})
    assert built(knarr, work.url) == {"new": b"b\n"}


def test_a_url_as_the_context(knarr: Knarr, files: FileServer, repositories: GitServer, tmp_path: Path) -> None:
    work = Work(tmp_path / "work", repositories, "app")
    work.commit({"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a\n"})
    work.git("archive", "-o", str(tmp_path / "x.tgz"), "HEAD")
    files.pages["/x.tgz"] = Page((tmp_path / "x.tgz").read_bytes())
    files.pages["/Dockerfile"] = Page(b"FROM scratch\nCOPY <<EOF /here\nhere\nEOF\n")
    assert built(knarr, files.url("/x.tgz")) == {"a": b"a\n"}
    assert built(knarr, files.url("/Dockerfile")) == {"here": b"here\n"}
    assert built(knarr, files.url("/no"), check="invalid response status 404") == {}
    assert list((knarr.root / "run/contexts").iterdir()) == [knarr.root / "run/contexts/owners"]


def test_mirrors_of_repositories_are_listed_and_pruned(knarr: Knarr, repositories: GitServer, tmp_path: Path) -> None:
    work = Work(tmp_path / "work", repositories, "app")
    work.commit({"Dockerfile": "FROM scratch\nCOPY . /\n"})
    assert list(built(knarr, work.url)) == ["Dockerfile"]
    assert f"git repository {work.url}" in knarr.run("du", "--verbose").stdout
    assert f"git repository {work.url}" in knarr.run("prune", "--force", "--all").stdout
    assert list((knarr.root / "git").iterdir()) == []
    assert list(built(knarr, work.url)) == ["Dockerfile"]


def built(knarr: Knarr, context: str, *options: str, check: str = "") -> dict[str, bytes]:
    """The files of the image that a context gives, or none where the build fails and says `check`."""
    archive = knarr.work / "out.tar"
    done = knarr.run("build", "-o", f"type=oci,dest={archive}", *options, context, check=not check)
    assert check in done.stderr
    assert (done.returncode == 0) is not bool(check)
    contents: dict[str, bytes] = {} if check else open_archive(archive)[0].contents
    return contents


def epoch_of(knarr: Knarr, dockerfile: str, *options: str) -> str:
    """The time that the image of a build has."""
    return str(knarr.build(dockerfile, *options).config["created"])


def test_an_epoch_by_the_name_of_a_stage_is_that_of_what_it_adds(knarr: Knarr, files: FileServer) -> None:
    files.pages["/f"] = Page(b"one", modified=OLD)
    files.pages["/a.tar"] = Page(archive((("d/x", 1_500_000_001), ("d/y", 1_500_000_000))))
    files.pages["/nothing"] = Page(b"text")
    dockerfile = f"ARG PAGE=f\nFROM scratch AS dated\nADD {files.url('/')}${{PAGE}} /\nFROM busybox\nRUN true\n"
    asked = ("--build-arg", "SOURCE_DATE_EPOCH=DATED", "--build-arg")

    assert epoch_of(knarr, dockerfile, *asked, "PAGE=f") == "2020-01-01T00:00:00Z"
    assert epoch_of(knarr, dockerfile, *asked, "PAGE=a.tar") == "2017-07-14T02:40:01Z"
    assert epoch_of(knarr, dockerfile, *asked, "PAGE=nothing") > "2026"
    files.pages["/f"] = Page(b"one", modified=OLD + 60)
    assert epoch_of(knarr, dockerfile, *asked, "PAGE=f") == "2020-01-01T00:01:00Z"  # never taken for unchanged


def test_an_epoch_by_the_name_of_a_context_is_that_of_the_commit(knarr: Knarr, repositories: GitServer) -> None:
    work = Work(knarr.work / "work", repositories, "app.git")
    work.commit(
        {"Dockerfile": "FROM busybox\nCOPY f /\nARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /e\n", "f": "f"}
    )
    work.publish()
    seconds = int(work.git("log", "-1", "--format=%ct"))
    out = knarr.work / "out.tar"
    for name, context in (("context", work.url), ("far", ".")):
        options = ["--build-arg", f"SOURCE_DATE_EPOCH={name}", "--build-context", f"far={work.url}"]
        (knarr.work / "Dockerfile").write_text(
            "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /e\n"
        )
        knarr.run("build", *options, "-o", f"type=oci,dest={out},rewrite-timestamp=true", context)
        image = open_archive(out)[0]
        assert image.contents["e"] == f"{seconds}\n".encode()
        assert image.files["e"].mtime == seconds
    knarr.run("build", "--build-arg", "SOURCE_DATE_EPOCH=1", "-o", f"type=oci,dest={out}", work.url)
    assert open_archive(out)[0].files["f"].mtime == seconds  # a repository's files are as old as the commit then


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM busybox\n", "invalid SOURCE_DATE_EPOCH: dated"),
        ("FROM busybox AS dated\nADD https://x.example/f /\n", "stage must use FROM scratch"),
        ("FROM scratch AS dated\nADD https://x.example/f /\nCOPY f /\n", "COPY instruction"),
        ("FROM scratch AS dated\n", "must contain exactly one remote ADD"),
        ("FROM scratch AS dated\nADD f /\n", "source must be a single HTTP(S) or Git ADD"),
    ],
)
def test_what_no_epoch_can_come_of_is_refused(knarr: Knarr, dockerfile: str, words: str) -> None:
    done = knarr.run(*knarr.command(dockerfile, "--build-arg", "SOURCE_DATE_EPOCH=dated"), check=False)
    assert done.returncode != 0
    assert words in done.stderr


def test_of_a_directory_nobody_knows_the_time(knarr: Knarr) -> None:
    assert epoch_of(knarr, "FROM busybox\nRUN true\n", "--build-arg", "SOURCE_DATE_EPOCH=context") > "2026"


def archive(files: Sequence[tuple[str, int]]) -> bytes:
    """A compressed tar of empty files with these times."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, seconds in files:
            info = tarfile.TarInfo(name)
            info.mtime = seconds
            tar.addfile(info)
    return buffer.getvalue()
