"""Pruning beside builds: what is in use stays, what is unused goes, and the next build is right either way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from knarr.snapshot.choose import choose

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

DOCKERFILE = "FROM busybox\nRUN echo one > /one\n"


def test_prune_removes_everything_that_no_build_uses(knarr: Knarr) -> None:
    knarr.run(*knarr.command(DOCKERFILE), "-o", "type=cacheonly")
    knarr.run("prune", "--all", "--force")
    assert "RUN echo one" not in knarr.run("du").stdout
    again = knarr.run(*knarr.command(DOCKERFILE), "-o", "type=cacheonly")
    assert "CACHED" not in again.stderr


def test_prune_leaves_what_a_running_build_has_used(knarr: Knarr) -> None:
    knarr.run(*knarr.command(DOCKERFILE), "-o", "type=cacheonly")
    slow = DOCKERFILE + "RUN cat /one; while test ! -e /go/on; do sleep 0.05; done; cat /one > /two\n"
    gate = knarr.work / "context"
    gate.mkdir(exist_ok=True)
    slow = slow.replace("RUN cat /one; while", "RUN --mount=type=cache,target=/go cat /one; while")
    argv = [sys.executable, "-m", "knarr", *knarr.command(slow), "-o", f"type=local,dest={knarr.work}/out"]
    build = subprocess.Popen(argv, env=knarr.env, cwd=knarr.work, stderr=subprocess.PIPE, text=True)
    try:
        place = _eventually(knarr.root / "cachemounts")
        knarr.run("prune", "--all", "--force")
        assert "RUN echo one" in knarr.run("du").stdout
        (place / "tree/on").touch()
        _, errors = build.communicate(timeout=60)
    finally:
        build.kill()
    assert build.returncode == 0, errors
    assert (knarr.work / "out/two").read_text() == "one\n"


def _eventually(mounts: Path) -> Path:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if mounts.is_dir():
            found = [mounts / name for name in os.listdir(mounts) if (mounts / name / "tree").is_dir()]
            if found:
                return found[0]
        time.sleep(0.05)
    raise AssertionError("the step did not start")


def test_prune_leaves_no_tree_that_was_mounted_after_its_record_was_made(knarr: Knarr) -> None:
    text = "FROM busybox AS base\nRUN echo one > /one\nFROM scratch\nCOPY --from=base one /\n"
    cache = f"type=local,dest={knarr.work}/cache"
    knarr.run(*knarr.command(text), "--cache-to", cache, "-o", f"type=local,dest={knarr.work}/out")
    knarr.run("prune", "--all", "--force")
    assert [info.name for info in choose(knarr.root / "snapshots", "auto").walk()] == []
