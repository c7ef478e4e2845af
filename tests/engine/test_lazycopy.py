"""A COPY that is written straight into a layer gives the layer that the ordinary way gives."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

# A RUN that reads the result makes the op run in the ordinary way; the layer of the COPY is then the last but one.
_READ = "RUN true\n"


def _fill(context: Path) -> None:
    (context / "a b").mkdir(parents=True)
    (context / "a b/ü").write_text("umlaut\n")
    (context / "a-b").write_text("between a and a/\n")
    (context / "a").mkdir()
    (context / "a/x").write_text("x\n")
    (context / "big").write_bytes(bytes(3 << 20))
    (context / "sub/deep/er").mkdir(parents=True)
    (context / "sub/deep/er/keep.txt").write_text("kept\n")
    (context / "sub/deep/skip.log").write_text("skipped\n")
    (context / "node_modules/m").mkdir(parents=True)
    (context / "node_modules/m/index.js").write_text("hidden\n")
    (context / ".dockerignore").write_text("node_modules\n*.log\n**/*.log\n!important.log\n")
    (context / "important.log").write_text("re-included\n")
    os.link(context / "a/x", context / "hard")
    os.symlink("a/x", context / "link")
    os.chmod(context / "a-b", 0o4755)
    os.chmod(context / "sub/deep", 0o2750)
    os.chown(context / "a/x", 1000, 1000)
    (context / ("long" * 40)).write_text("a name that needs pax\n")
    for path in context.rglob("*"):
        os.utime(path, ns=(10**18, 10**18 + 123_456_789), follow_symlinks=False)


def _entries(image: Any, layer: int) -> list[tuple[object, ...]]:
    found = []
    for name in image.layers[layer]:
        entry: tarfile.TarInfo = image.files[name]
        # What is made now has the time of now: only what is copied has a time to compare.
        mtime = entry.mtime if entry.mtime == 10**9 else None
        content = image.contents.get(name)
        found.append((name, entry.type, entry.mode, entry.uid, entry.gid, entry.size, entry.linkname, mtime, content))
    return found


@pytest.mark.parametrize(
    "copy",
    [
        "COPY . /new/place",
        "COPY . /new/place/",
        "WORKDIR /app\nCOPY . .",
        "COPY --chown=7:8 . /new/place",
        "COPY --chown=9 sub /s",
        "COPY --chmod=750 . /etc/new",
        "COPY --chmod=u=rwX,go=rX . /etc/new",
        "COPY --link . /linked/here",
        "COPY --exclude=*.txt . /new",
        "COPY --exclude=sub/deep/er . /new",
        "COPY s?b /matched/",
        "COPY link* /file/",
        "COPY . /tmp",
        "COPY . /",
        "COPY big /",
        "COPY big /big2",
        "COPY big /etc/",
        "COPY big /etc/passwd",
        "COPY big /etc",
        "COPY big /new/place/",
        "COPY big /new/place",
        "COPY --chown=7:8 --chmod=600 a/x /etc/x",
        "COPY --link big /etc/",
        "COPY b* /etc/",
        "COPY link /etc/",
        "COPY hard /tmp/one",
        "RUN ln -s /tmp /way && ln -s /tmp/there /free\nCOPY big /way/",
        "RUN ln -s /tmp /way && ln -s /tmp/there /free\nCOPY big /free",
        "WORKDIR /app\nCOPY a-b .",
    ],
)
def test_both_ways_give_the_same_layer(knarr: Knarr, copy: str) -> None:
    context = knarr.work / "context"
    _fill(context)
    lazy = knarr.build(f"FROM busybox\n{copy}\n", context=context)
    ordinary = knarr.build(f"FROM busybox\n{copy}\n{_READ}", "--no-cache", context=context)
    assert _entries(lazy, -1) == _entries(ordinary, -2)
    assert len(_entries(lazy, -1)) >= 1


def test_what_was_written_lazily_is_found_again_and_can_be_mounted(knarr: Knarr) -> None:
    context = knarr.work / "context"
    _fill(context)
    knarr.build("FROM busybox\nCOPY . /app\n", context=context)
    again = knarr.run(
        *knarr.command("FROM busybox\nCOPY . /app\nRUN cat /app/a/x > /x\n", context=context),
        *("-o", f"type=local,dest={knarr.work}/out"),
    )
    assert "COPY . /app\n#6 CACHED" in again.stderr or "CACHED" in again.stderr
    assert (knarr.work / "out/x").read_text() == "x\n"
    assert (knarr.work / "out/app/a-b").stat().st_mode & 0o7777 == 0o4755


def test_a_local_output_of_a_lazy_copy_has_the_files(knarr: Knarr) -> None:
    context = knarr.work / "context"
    _fill(context)
    command = knarr.command("FROM scratch\nCOPY . /app\n", context=context)
    knarr.run(*command, "-o", f"type=local,dest={knarr.work}/out")
    assert (knarr.work / "out/app/sub/deep/er/keep.txt").read_text() == "kept\n"
    assert not (knarr.work / "out/app/node_modules").exists()


def test_cacheonly_keeps_a_lazy_copy_for_the_next_build(knarr: Knarr) -> None:
    context = knarr.work / "context"
    _fill(context)
    command = knarr.command("FROM busybox\nCOPY . /app\n", context=context)
    knarr.run(*command, "-o", "type=cacheonly")
    again = knarr.run(*command, "-o", f"type=oci,dest={knarr.work}/x.tar")
    assert "CACHED" in again.stderr
