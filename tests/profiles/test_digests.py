"""One image in every profile: ten Dockerfiles with what is hard to represent, by their digests."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.profiles import corpus, places

pytestmark = [pytest.mark.root, pytest.mark.system]

MakePlace = Callable[..., places.Place]
SMALL = [name for name in corpus.DOCKERFILES if name != "packages"]


def build(place: places.Place, contexts: Path, name: str) -> str:
    """Build a Dockerfile of the corpus and give the image's digest, or "error: …"."""
    metadata = place.home / f"{name}.json"
    done = place.knarr(
        *(
            "build",
            "--progress=plain",
            "--metadata-file",
            str(metadata),
            "--file",
            str(contexts / f"{name}.Dockerfile"),
        ),
        *("--platform", corpus.platforms(name), "--secret", f"id=token,src={contexts}/token"),
        *("--output", f"type=image,name={name},rewrite-timestamp=true", str(contexts / "context")),
    )
    if done.returncode:
        return done.stdout + done.stderr
    return str(json.loads(metadata.read_text())["containerimage.digest"])


@pytest.fixture(scope="session")
def expected() -> dict[str, str]:
    """What root gets, as it is found out."""
    return {}


def as_root(expected: dict[str, str], place: MakePlace, contexts: Path, name: str) -> str:
    if name not in expected:
        expected[name] = build(place("root"), contexts, name)
        assert expected[name].startswith("sha256:"), expected[name]
    return expected[name]


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("name", SMALL)
def test_a_user_with_ids_of_its_own_gets_the_image_that_root_gets(
    place: MakePlace, contexts: Path, expected: dict[str, str], name: str, runtime: str
) -> None:
    there = place("user", extra={"KNARR_OCI_RUNTIME": runtime})
    found = build(there, contexts, name)
    assert found == as_root(expected, place, contexts, name), found


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["user", "container", "restricted"])
def test_packages_installed_elsewhere_are_those_installed_by_root_of_the_machine(
    place: MakePlace, package_contexts: Path, expected: dict[str, str], profile: str
) -> None:
    there = place(profile, binds=(package_contexts,))
    found = build(there, package_contexts, "packages")
    assert found == as_root(expected, place, package_contexts, "packages"), found


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("name", SMALL)
def test_root_in_a_plain_container_gets_the_image_that_root_of_the_machine_gets(
    place: MakePlace, contexts: Path, expected: dict[str, str], name: str, runtime: str
) -> None:
    there = place("container", runtime=runtime, binds=(contexts,))
    found = build(there, contexts, name)
    assert found == as_root(expected, place, contexts, name), found


# What cannot be represented without rights, and the words that name the file.
REFUSED = {
    "owners": "/srv/files/below/link: the owner 1000:1000 of a symlink, pipe or socket cannot be kept",
    "xattrs": "capable: Operation not permitted",
}


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("name", SMALL)
def test_a_restricted_pod_gets_the_image_that_root_gets_or_says_which_file_cannot_be_kept(
    place: MakePlace, contexts: Path, expected: dict[str, str], name: str, runtime: str
) -> None:
    there = place("restricted", runtime=runtime, binds=(contexts,))
    found = build(there, contexts, name)
    if name in REFUSED:
        assert REFUSED[name] in found
    else:
        assert found == as_root(expected, place, contexts, name), found


@pytest.mark.parametrize("name", ["owners", "users", "symlinks", "setuid", "xattrs"])
@pytest.mark.parametrize("profile", ["root", "user"])
def test_fuse_overlayfs_gives_the_image_that_overlayfs_gives(
    place: MakePlace, contexts: Path, expected: dict[str, str], name: str, profile: str
) -> None:
    if profile == "user" and not os.stat("/dev/fuse").st_mode & 0o006:
        pytest.skip("/dev/fuse is root's alone on this machine")
    there = place(profile, extra={"KNARR_SNAPSHOTTER": "fuse-overlayfs"})
    found = build(there, contexts, name)
    assert found == as_root(expected, place, contexts, name), found


# With one id the kernel refuses what a step does with owners, and the program that asked for it names the file.
REFUSED_TO_ONE_ID = {
    "owners": "chown: /srv: Invalid argument",
    "users": "chown: /srv: Invalid argument",
    "setuid": "chown: /sg: Invalid argument",
}


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("name", SMALL)
def test_a_user_with_one_id_gets_the_image_that_root_gets_or_hears_of_the_file(
    place: MakePlace, contexts: Path, expected: dict[str, str], name: str, runtime: str
) -> None:
    found = build(place("single", extra={"KNARR_OCI_RUNTIME": runtime}), contexts, name)
    if name in REFUSED_TO_ONE_ID:
        assert REFUSED_TO_ONE_ID[name] in found
    else:
        assert found == as_root(expected, place, contexts, name), found


def test_a_user_with_one_id_may_give_files_away_but_not_be_another(place: MakePlace) -> None:
    there = place("single")
    context = there.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nCOPY --chown=5:6 Dockerfile /given\nUSER 5\nRUN true\n")
    done = there.knarr("build", "--progress=plain", str(context))
    assert (done.returncode, "a step cannot run as 5:0 in a user namespace with one id" in done.stderr) == (1, True)
    (context / "Dockerfile").write_text("FROM busybox\nCOPY --chown=5:6 Dockerfile /given\n")
    done = there.knarr("build", "--output", f"type=tar,dest={there.home}/out.tar", str(context))
    assert done.returncode == 0, done.stderr
    with tarfile.open(there.home / "out.tar") as tar:
        given = tar.getmember("given")
    assert (given.uid, given.gid) == (5, 6)
