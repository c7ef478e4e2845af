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
@pytest.mark.parametrize("profile", ["user", "single", "container", "restricted"])
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
REFUSED_TO_ONE_ID = {"owners": REFUSED["owners"]}


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


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_user_with_one_id_gives_files_away_and_is_whom_the_dockerfile_says(place: MakePlace, runtime: str) -> None:
    there = place("single", extra={"KNARR_OCI_RUNTIME": runtime})
    context = there.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "FROM busybox\nRUN echo five:x:5:6::/:/bin/sh >> /etc/passwd && echo six:x:6: >> /etc/group\n"
        "COPY --chown=5:6 Dockerfile /given\nRUN mkdir /own && chown five:six /own && chown 5 /dev/shm\n"
        "USER five\nRUN id > /own/id && touch /own/made && stat -c %u:%g /given /own /etc /own/made > /own/seen\n"
        "USER 0\nRUN su five -c 'id -u' > /own/switched\n"
    )
    done = there.knarr("build", "--output", f"type=tar,dest={there.home}/out.tar", str(context))
    assert done.returncode == 0, done.stderr
    with tarfile.open(there.home / "out.tar") as tar:
        told = {name: tar.extractfile(f"own/{name}").read().decode() for name in ("id", "seen", "switched")}  # type: ignore[union-attr]
        owners = {name: (tar.getmember(name).uid, tar.getmember(name).gid) for name in ("given", "own/made", "own/id")}
    assert told["id"].startswith("uid=5(five) gid=6(six)")
    assert told["seen"].split() == ["5:6", "5:6", "0:0", "0:0"]
    assert told["switched"] == "5\n"
    assert set(owners.values()) == {(5, 6)}


def test_a_link_that_is_given_away_is_refused_by_name_where_there_is_one_id(place: MakePlace) -> None:
    there = place("single")
    context = there.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nRUN ln -s a /link && chown -h 5:6 /link || true\n")
    done = there.knarr("build", "--progress=plain", str(context))
    assert done.returncode == 1
    assert "/link: the owner 5:6 of what is no file and no directory cannot be kept" in done.stderr
