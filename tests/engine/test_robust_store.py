"""A state directory that was damaged behind our back: found, told, and made good, and never a wrong image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.aftermath import assert_nothing_left

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

DOCKERFILE = (
    "FROM busybox AS a\nRUN echo a > /a\nFROM busybox\nCOPY --from=a /a /copy\nCOPY file /\nRUN cat /copy /file > /b\n"
)
GARBAGE = b"garbage " * 1000


@pytest.fixture
def built(knarr: Knarr) -> Knarr:
    (knarr.work / "context").mkdir()
    (knarr.work / "context/file").write_text("file\n")
    is_right(knarr)
    return knarr


def is_right(knarr: Knarr, *options: str, dockerfile: str = DOCKERFILE) -> None:
    """Build, and look at the image that comes out."""
    image = knarr.build(dockerfile, *options)
    assert image.contents["b"] == b"a\nfile\n"
    assert image.contents["copy"] == b"a\n"


def doctor(knarr: Knarr, *options: str) -> tuple[int, str]:
    done = knarr.run("doctor", "--store", *options, check=False)
    return done.returncode, done.stdout


def blobs(knarr: Knarr) -> list[Path]:
    """The layer blobs, the largest (the base image's) last."""
    found = [p for p in (knarr.root / "content/blobs/sha256").iterdir() if p.read_bytes()[:2] == b"\x1f\x8b"]
    return sorted(found, key=lambda p: p.stat().st_size)


def without_log(database: Path) -> Path:
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    return database


@pytest.mark.parametrize("name", ["cache.db", "content/meta.db"])
def test_a_database_of_garbage_is_told_and_repaired(built: Knarr, name: str) -> None:
    without_log(built.root / name).write_bytes(GARBAGE)

    done = built.run(*built.command(DOCKERFILE, "--no-cache"), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert f"{name}: file is not a database" in done.stderr
    assert "hint: knarr doctor --store --repair" in done.stderr

    status, text = doctor(built)
    assert (status, f"WRONG    {Path(name).name}" in text) == (1, True)
    assert doctor(built, "--repair")[0] == 0
    is_right(built)
    assert_nothing_left(built)


@pytest.mark.parametrize("name", ["cache.db", "content/meta.db", "snapshots/overlayfs/snapshots.db"])
def test_a_lost_database(built: Knarr, name: str) -> None:
    without_log(built.root / name).unlink()
    is_right(built)
    assert_nothing_left(built)


def test_a_ledger_of_garbage_is_begun_anew(built: Knarr) -> None:
    without_log(built.root / "snapshots/overlayfs/snapshots.db").write_bytes(GARBAGE)
    is_right(built)
    is_right(built, "--no-cache")
    assert_nothing_left(built)


@pytest.mark.parametrize("which", [0, 1, 2, -1])
@pytest.mark.parametrize("harm", [lambda p: os.truncate(p, 20), lambda p: p.write_bytes(b""), Path.unlink])
def test_a_layer_that_was_cut_off_or_removed(built: Knarr, which: int, harm: Callable[[Path], object]) -> None:
    harm(blobs(built)[which])
    is_right(built)
    assert_nothing_left(built)


def test_all_blobs_are_gone(built: Knarr) -> None:
    shutil.rmtree(built.root / "content/blobs")
    is_right(built)
    assert_nothing_left(built)


def test_other_bytes_of_the_same_length_are_found_by_the_doctor(built: Knarr) -> None:
    base = blobs(built)[-1]
    with base.open("r+b") as file:
        file.seek(5000)
        file.write(GARBAGE)
    status, text = doctor(built)
    assert status == 1
    assert f"1 blob of {len(list(base.parent.iterdir()))} damaged: sha256:{base.name}" in text
    assert doctor(built, "--repair")[0] == 0
    is_right(built)
    assert_nothing_left(built)


def test_trees_that_are_gone_are_made_again(built: Knarr) -> None:
    for place in (built.root / "snapshots/overlayfs").iterdir():
        if place.name.isdigit():
            shutil.rmtree(place)
    done = built.run(*built.command(DOCKERFILE, "--no-cache"), check=False)
    if done.returncode:  # the first build may find out in the middle
        assert done.stderr.count("error: ") == 1
        assert "build once more" in done.stderr
    is_right(built, "--no-cache")
    assert_nothing_left(built)


def test_the_doctor_finds_trees_that_are_gone(built: Knarr) -> None:
    shutil.rmtree(next(p for p in (built.root / "snapshots/overlayfs").iterdir() if p.name.isdigit()))
    status, text = doctor(built)
    assert (status, "WRONG    snapshots" in text) == (1, True)
    assert doctor(built, "--repair")[0] == 0
    is_right(built)
    assert_nothing_left(built)


def test_notes_of_garbage_are_no_notes(built: Knarr) -> None:
    built.run(*built.command(DOCKERFILE, "-t", "app:1"))
    for place in (built.root / "fingerprints", built.root / "contexts"):
        for file in place.iterdir():
            file.write_bytes(GARBAGE)
    built.run(*built.command(DOCKERFILE, "-t", "app:1"))
    is_right(built)
    assert_nothing_left(built)


def test_a_state_directory_that_cannot_be_written(built: Knarr) -> None:
    script = f'mount --bind {built.root} {built.root} && mount -o remount,bind,ro {built.root} && exec "$@"'
    built.prefix = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]
    done = built.run(*built.command(DOCKERFILE, "--no-cache"), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert str(built.root) in done.stderr
    assert "hint: " in done.stderr
    built.prefix = []
    is_right(built)
    assert_nothing_left(built)
