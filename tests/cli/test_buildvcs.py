"""Where a context comes from, compared with what git itself says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from knarr.cli.buildvcs import Hints, hints


def git(place: Path, *argv: str) -> str:
    command = ["git", "-C", str(place), "-c", "user.name=n", "-c", "user.email=e@x.test", *argv]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "repo"
    (place / "app").mkdir(parents=True)
    (place / "app/Dockerfile").write_text("FROM scratch\n")
    git(place, "init", "-q", "-b", "main")
    git(place, "add", ".")
    git(place, "commit", "-qm", "first")
    git(place, "remote", "add", "origin", "https://me:word@git.test/o/r.git")
    return place


def told(context: Path, **environ: str) -> Hints:
    directories = {"context": str(context), "dockerfile": str(context)}
    return hints(str(context), "", directories, environ)


def test_revision_source_and_directories_are_told(repository: Path) -> None:
    assert told(repository / "app").options == {
        "vcs:revision": git(repository, "rev-parse", "HEAD"),
        "vcs:source": "https://xxxxx:xxxxx@git.test/o/r.git",
        "vcs:localdir:context": "app",
        "vcs:localdir:dockerfile": "app",
    }


def test_packed_refs_worktrees_and_detached_heads_are_read(repository: Path, tmp_path: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "pack-refs", "--all")
    assert told(repository).options["vcs:revision"] == head
    git(repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    assert told(tmp_path / "tree").options["vcs:revision"] == head
    assert told(tmp_path / "tree").options["vcs:source"].endswith("git.test/o/r.git")
    git(repository, "checkout", "-q", "--detach")
    assert told(repository).options["vcs:revision"] == head


def test_the_remote_that_the_branch_follows_counts_first(repository: Path) -> None:
    git(repository, "remote", "add", "fork", "git@git.test:me/r.git")
    git(repository, "config", "branch.main.remote", "fork")
    assert told(repository).options["vcs:source"] == "git@git.test:me/r.git"


def test_changes_are_told_when_asked(repository: Path) -> None:
    (repository / "new").write_text("x")
    assert not told(repository).options["vcs:revision"].endswith("-dirty")
    assert told(repository, BUILDX_GIT_CHECK_DIRTY="1").options["vcs:revision"].endswith("-dirty")


def test_labels_are_set_when_asked(repository: Path) -> None:
    found = told(repository / "app", BUILDX_GIT_LABELS="1", BUILDX_GIT_INFO="0")
    assert found.options == {}
    assert found.labels == {
        "org.opencontainers.image.revision": git(repository, "rev-parse", "HEAD"),
        "org.opencontainers.image.source": "https://xxxxx:xxxxx@git.test/o/r.git",
        "com.docker.image.source.entrypoint": "app/Dockerfile",
    }


def test_an_empty_repository_tells_its_directories_only(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert set(told(tmp_path).options) == {"vcs:localdir:context", "vcs:localdir:dockerfile"}


def test_no_repository_and_nonsense_in_its_place_tell_nothing(tmp_path: Path) -> None:
    assert told(tmp_path) == Hints()
    (tmp_path / ".git").write_text("nothing of git's")
    assert told(tmp_path) == Hints()
    (tmp_path / ".git").unlink()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/../../../../etc/passwd")
    assert "vcs:revision" not in told(tmp_path).options


def test_the_files_that_decide_are_known(repository: Path) -> None:
    looked_at = {path.name for path in told(repository).looked_at}
    assert {"HEAD", "config", "main"} <= looked_at
