"""A sync without news asks for lists and digests only, and loads nothing else; any news is acted upon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.fakeregistry import FakeRegistry
from tests.remote.material import CONFIG, image

TAGS = ("1.0", "1.1", "1.2")


class Mirror:
    """Two registries and a file."""

    def __init__(self, source: FakeRegistry, target: FakeRegistry, place: Path) -> None:
        self.source, self.target, self.file = source, target, place / "mirror.toml"
        self.env = {**os.environ, "KNARR_ROOT": str(place / "state")}
        self.file.write_text(f'[[sync]]\nsource = "{source.host}/app"\ntarget = "{target.host}/app"\n')
        for tag in TAGS:
            self.push(tag, tag)

    def push(self, tag: str, content: str) -> None:
        made = image(content.encode())
        self.source.add_blob("app", content.encode())
        self.source.add_blob("app", CONFIG)
        self.source.add_manifest("app", tag, made.raw, made.media_type)

    def sync(self, *flags: str) -> str:
        """What it prints, with the number of modules that are loaded only when something may be done."""
        code = "import sys; from knarr.cli import main; status = main(); print('knarr.sync.run' in sys.modules)"
        words = [sys.executable, "-c", f"{code}; sys.exit(status)", "sync", *flags, str(self.file)]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


WHOLE, AGAIN = "3 images: 3 unchanged\nTrue\n", "3 images: 3 unchanged\nFalse\n"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with FakeRegistry() as source, FakeRegistry() as target:
        mirror = Mirror(source, target, tmp_path)
        assert "3 copied" in mirror.sync("-q")
        yield mirror


def test_the_second_run_sends_only_heads_and_one_list(mirror: Mirror) -> None:
    before = len(mirror.source.seen), len(mirror.target.seen)
    assert mirror.sync("-q") == AGAIN
    methods = [[seen.method for seen in registry.seen[count:]] for registry, count in
               zip((mirror.source, mirror.target), before, strict=True)]  # fmt: skip
    assert methods == [["GET", "HEAD", "HEAD", "HEAD"], ["HEAD"] * 3]


def test_a_moved_tag_at_the_source_is_copied(mirror: Mirror) -> None:
    mirror.push("1.1", "new")
    assert "3 images: 1 copied, 2 unchanged" in mirror.sync("-q")
    assert mirror.target.tags["app", "1.1"] == mirror.source.tags["app", "1.1"]
    assert mirror.sync("-q") == AGAIN


def test_a_new_tag_is_copied(mirror: Mirror) -> None:
    mirror.push("1.3", "three")
    assert "4 images: 1 copied, 3 unchanged" in mirror.sync("-q")


def test_a_tag_that_is_gone_from_the_target_is_brought_back(mirror: Mirror) -> None:
    del mirror.target.tags["app", "1.2"]
    assert "3 images: 1 copied, 2 unchanged" in mirror.sync("-q")


def test_a_changed_file_is_read(mirror: Mirror) -> None:
    mirror.file.write_text(mirror.file.read_text() + 'tags = ["1.0"]\n')
    assert mirror.sync("-q") == "1 images: 1 unchanged\nTrue\n"


def test_without_its_memory_everything_is_looked_at(mirror: Mirror) -> None:
    for file in (Path(mirror.env["KNARR_ROOT"]) / "sync").iterdir():
        file.unlink()
    assert mirror.sync("-q") == WHOLE


def test_full_looks_at_everything(mirror: Mirror) -> None:
    assert mirror.sync("-q", "--full") == WHOLE
    assert mirror.sync("-q", "--full") == WHOLE


def test_when_it_is_time_to_look_at_referrers_they_are_looked_at(mirror: Mirror) -> None:
    mirror.file.write_text(mirror.file.read_text() + 'recheck = "1s"\n')
    mirror.sync("-q")
    time.sleep(1.1)
    assert mirror.sync("-q") == WHOLE


def test_a_registry_in_trouble_is_asked_in_the_ordinary_way(mirror: Mirror) -> None:
    mirror.source.fail("HEAD", "1.1", status=503)
    assert mirror.sync("-q") == WHOLE


def test_pruning_is_done_every_time(mirror: Mirror) -> None:
    mirror.file.write_text(mirror.file.read_text() + "prune = true\n")
    assert mirror.sync("-q") == WHOLE
    assert mirror.sync("-q") == WHOLE


def test_json_still_has_a_line_for_each_image(mirror: Mirror) -> None:
    for _ in range(2):
        lines = mirror.sync("--format=json").splitlines()[:3]
        assert [json.loads(line)["result"] for line in lines] == ["unchanged"] * 3
