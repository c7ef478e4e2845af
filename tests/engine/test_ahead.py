"""Layers below a step are packed while the step runs, if they will be exported, and only then."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py


def _packed(knarr: Knarr) -> list[str]:
    """The names of files in all layers of the store."""
    names: list[str] = []
    for blob in knarr.root.glob("content/blobs/sha256/*"):
        data = blob.read_bytes()
        if data[:2] == b"\x1f\x8b":
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
                names += tar.getnames()
    return names


def test_a_finished_layer_is_packed_while_the_next_step_runs(knarr: Knarr, context: Path) -> None:
    argv = [sys.executable, "-m", "knarr", *knarr.command("FROM busybox\nCOPY f /below\nRUN sleep 600\n")]
    with subprocess.Popen(argv, env=knarr.env, cwd=knarr.work, stderr=subprocess.DEVNULL) as build:
        deadline = time.monotonic() + 60
        while "below" not in _packed(knarr) and build.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        still_running = build.poll() is None
        build.terminate()
    assert still_running
    assert "below" in _packed(knarr)


@pytest.mark.parametrize("output", ["type=cacheonly", "type=local,dest=out"])
def test_nothing_is_packed_for_outputs_without_layers(knarr: Knarr, context: Path, output: str) -> None:
    knarr.run(*knarr.command("FROM busybox\nCOPY f /below\nRUN true\n"), "-o", output)
    assert "below" not in _packed(knarr)


def test_a_stage_that_is_only_copied_from_is_not_packed(knarr: Knarr, context: Path) -> None:
    text = "FROM busybox AS make\nCOPY f /other\nRUN cp /other /made\n"
    text += "FROM busybox\nCOPY --from=make /made /\nRUN true\n"
    image = knarr.build(text)
    assert "made" in image.files
    assert {"made", "other"} & set(_packed(knarr)) == {"made"}


def test_a_layer_is_the_same_as_when_nothing_was_done_ahead(knarr: Knarr, context: Path) -> None:
    text = "FROM busybox\nCOPY f /below\nRUN true\n"
    ahead = knarr.build(text)
    knarr.run("prune", "--all", "--force")
    knarr.run(*knarr.command(text), "-o", "type=cacheonly")  # solved, so that nothing runs when it is exported
    after = knarr.build(text)
    assert ahead.layers[1] == ["below"]
    assert ahead.manifest["layers"][1] == after.manifest["layers"][1]
