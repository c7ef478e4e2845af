"""A commit of a far repository as a tree of files, by way of a mirror that keeps what was fetched.

Each remote has a bare repository below `git/` in the state directory. Only the
commits that builds asked for come in, without their history, and each is held by
a ref of its own (`refs/knarr/<id>`). One build at a time fetches into a mirror;
any number check out from it, each through a repository of its own that borrows
the mirror's objects, so that nothing of one checkout shows in another.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cache.flight import flight
from knarr.cache.record import RecordId
from knarr.errors import ContentError, KnarrError
from knarr.ops.gitprogram import Git, GitFailed, Place, without_login
from knarr.ops.world import World
from knarr.progress import Status
from knarr.record import replace

if TYPE_CHECKING:
    from knarr.ops.source_git import GitSource, Tip

# What servers and git itself say when a commit cannot be had by its id, or not without its history.
_ANOTHER_WAY = (
    *("not our ref", "unadvertised object", "does not allow request", "find remote ref", "shallow", "--depth"),
    *("dumb http", "no such remote ref", "unexpected disconnect"),
)
URL_FILE = "knarr-url"  # in a mirror: whose it is, for people; its time is that of the last use
_DAMAGED = ("corrupt", "bad object", "loose object", "not a git repository", "unable to read", "missing blob")


def make(world: World, git: Git, source: GitSource, tip: Tip, vertex: str, name: RecordId) -> RecordId:
    """Commit the files of `tip` as the tree `name`.

    Raises:
        KnarrError: the commit cannot be had, or has no such directory.
    """
    with _told(world, vertex, f"fetching {tip.commit[:12]}"):
        mirror = fetch(world.settings.root, git, tip)
    with world.trees.active(None) as active, _told(world, vertex, "checking out"):
        _check_out(git, source, tip, mirror, Path(active.root))
        return active.commit(name)


def fetch(root: Path, git: Git, tip: Tip) -> Path:
    """Have `tip` in the mirror of its remote in the state directory `root`; returns the mirror."""
    mirror = root / "git" / hashlib.sha256(git.remote.encode()).hexdigest()[:32]
    with flight(root / "flights", f"git-{mirror.name}", scope=git.scope):
        try:
            _fetch(git, mirror, tip)
        except GitFailed as error:
            if not error.says(*_DAMAGED):
                raise
            shutil.rmtree(mirror, ignore_errors=True)
            _fetch(git, mirror, tip)
        os.utime(mirror / URL_FILE)
    return mirror


def raw_objects(root: Path, git: Git, tip: Tip) -> tuple[bytes, bytes]:
    """The commit of `tip` as git keeps it, fetched now, and the tag object that leads to it, b"" if none does."""
    mirror = Place(str(fetch(root, git, replace(tip, commit=tip.object))))
    commit = git.run("cat-file", "commit", tip.object + "^{commit}", at=mirror)
    is_tag = git.run("cat-file", "-t", tip.object, at=mirror).strip() == "tag"
    tag = git.run("cat-file", "tag", tip.object, at=mirror) if is_tag else ""
    return commit.encode(errors="surrogateescape"), tag.encode(errors="surrogateescape")


@contextmanager
def _told(world: World, vertex: str, what: str) -> Iterator[None]:
    started = time.time_ns()
    world.sink.send(Status(vertex, what, started_ns=started, at_ns=started))
    yield
    world.sink.send(Status(vertex, what, done=True, started_ns=started, at_ns=time.time_ns()))


# The mirror


def _fetch(git: Git, mirror: Path, tip: Tip) -> None:
    """Have the commit of `tip` in the mirror, by the first way that the server allows."""
    place = Place(str(mirror))
    if not (mirror / URL_FILE).exists():
        _begin(git, mirror, tip)
    elif _has(git, place, tip.commit):
        return
    else:
        _unlock(mirror)
    target = f"refs/knarr/{tip.commit}"
    ways: list[tuple[str, ...]] = [("--depth=1", "--no-tags", f"{tip.commit}:{target}")]
    if tip.ref:
        ways += [("--depth=1", "--no-tags", f"+{tip.ref}:{target}"), ("--no-tags", f"+{tip.ref}:{target}")]
    ways.append(("--tags", "--force", "+refs/heads/*:refs/knarr/heads/*"))
    for number, (*options, refspec) in enumerate(ways):
        if number == len(ways) - 1 and (mirror / "shallow").exists():
            options.append("--unshallow")
        try:
            git.run("fetch", "--quiet", *options, "--", git.remote, refspec, at=place)
        except GitFailed as error:
            if number == len(ways) - 1 or not error.says(*_ANOTHER_WAY):
                raise
        if _has(git, place, tip.commit):
            return
    raise KnarrError(f"{git.shown}: there is no commit {tip.commit}", hint="if a branch has just moved, build again")


def _begin(git: Git, mirror: Path, tip: Tip) -> None:
    fresh = mirror.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    git.run("init", "--quiet", "--bare", "--template=", _format(tip), at=Place(str(fresh)))
    git.run("config", "uploadpack.allowAnySHA1InWant", "true", at=Place(str(fresh)))
    (fresh / URL_FILE).write_text(git.shown)
    shutil.rmtree(mirror, ignore_errors=True)
    os.rename(fresh, mirror)


def _format(tip: Tip) -> str:
    return f"--object-format={'sha256' if len(tip.commit) == 64 else 'sha1'}"


def _has(git: Git, place: Place, id: str) -> bool:
    try:
        git.run("cat-file", "-e", id + "^{tree}", at=place)
    except GitFailed:
        return False
    return True


def _unlock(mirror: Path) -> None:
    """Remove the locks of a git that was killed: whoever is here holds the flight, so they are nobody's."""
    for lock in (*mirror.glob("*.lock"), *mirror.glob("refs/knarr/**/*.lock")):
        lock.unlink(missing_ok=True)


# The tree


def _check_out(git: Git, source: GitSource, tip: Tip, mirror: Path, root: Path) -> None:
    """Put the files of `tip` into `root`. What is needed on the way lies in it too, and goes with it on failure."""
    keeps = source.keeps_git_dir and not source.subdir
    scratch = root / f".knarr-{os.urandom(6).hex()}"
    tree = scratch / "tree" if source.subdir else root
    scratch.mkdir()
    tree.mkdir(exist_ok=True)
    place = Place(str(root / ".git" if keeps else scratch / "repository"), str(tree))
    git.run("init", "--quiet", "--template=", _format(tip), at=place)
    if keeps:
        refspec = f"{tip.commit}:{tip.ref}" if tip.ref.startswith("refs/") else tip.commit
        fetch = ("fetch", "--quiet", "-u", "--depth=1", "--no-tags", "--", f"file://{mirror}", refspec)
        git.run(*fetch, at=place, reads_mirror=True)
    else:
        _borrow(mirror, Path(place.repository))
    git.run("remote", "add", "origin", source.remote, at=place)
    git.run("checkout", "--quiet", "--force", "--detach", tip.commit, at=place)
    if source.submodules and (tree / ".gitmodules").exists():
        _fetch_submodules(git, place)
        if not keeps:
            _forget_submodules(tree)
    seconds = int(git.run("log", "-1", "--format=%ct", tip.commit, at=place)) if source.commit_times else None
    if keeps:
        _tidy(git, place)
    if source.subdir:
        _lift(git, tree, source.subdir, root)
    shutil.rmtree(scratch, ignore_errors=True)
    if seconds is not None:
        _set_times(root, seconds)


def _fetch_submodules(git: Git, place: Place) -> None:
    """Without their history, where the servers know how to do that: a plain file server does not."""
    update = ("submodule", "--quiet", "update", "--init", "--recursive")
    try:
        git.run(*update, "--depth=1", at=place)
    except GitFailed as error:
        if not error.says("shallow", "--depth"):
            raise
        git.run(*update, at=place)


def _borrow(mirror: Path, repository: Path) -> None:
    """Let `repository` read the mirror's objects, and know where their history was cut."""
    info = repository / "objects/info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "alternates").write_bytes(os.fsencode(mirror / "objects") + b"\n")
    with suppress(FileNotFoundError):
        (repository / "shallow").write_bytes((mirror / "shallow").read_bytes())


def _forget_submodules(tree: Path) -> None:
    """Remove the `.git` files that lead from a submodule to where its repository was."""
    for directory, _, files in os.walk(tree):
        if ".git" in files:
            os.unlink(os.path.join(directory, ".git"))


def _tidy(git: Git, place: Place) -> None:
    """Take out of a `.git` that is kept what tells of this machine, of its time, or of a login."""
    git.run("remote", "set-url", "origin", without_login(git.remote), at=place)
    git.run("reflog", "expire", "--all", "--expire=now", at=place)
    Path(place.repository, "FETCH_HEAD").unlink(missing_ok=True)


def _lift(git: Git, tree: Path, subdir: str, root: Path) -> None:
    """Leave in `root` the contents of one directory of `tree`, which lies in it."""
    place = tree
    for part in subdir.split("/"):
        place = place / part
        if place.is_symlink() or not place.is_dir():
            what = "leads through a symlink" if place.is_symlink() else "is no directory of the repository"
            raise ContentError(f"{git.shown}: {subdir} {what}")
    for entry in os.listdir(place):
        os.rename(place / entry, root / entry)


def _set_times(root: Path, seconds: int) -> None:
    for directory, names, files in os.walk(root, topdown=False):
        for name in (*names, *files):
            os.utime(os.path.join(directory, name), (seconds, seconds), follow_symlinks=False)
    os.utime(root, (seconds, seconds))
