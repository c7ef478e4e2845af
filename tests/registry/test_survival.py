"""Random pushes, mounts, deletions, collections and kills: every image that has a tag can be pulled whole, always."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from knarr.content.salvage import keep_copy
from knarr.content.store import Store
from knarr.registry import gc
from knarr.registry.ledger import Ledger
from knarr.registry.settings import Retention

from .conftest import Client, digest, manifest

REPOSITORIES = ("a", "b/c", "d")
LAYERS = [f"layer {number} ".encode() * (1 + number * 400) for number in range(8)]
AT_ONCE = Retention(grace_s=0, undo_s=0, untagged_s=0)
UNDO = Retention(grace_s=0, undo_s=3600, untagged_s=0)


class Killable:
    """`knarr registry serve` as a process, and what its repositories must show."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.expected: dict[tuple[str, str], str] = {}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "knarr", "registry", "serve", "--listen=127.0.0.1:0"]
        env = {**os.environ, "KNARR_ROOT": str(self.root)}
        self._process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        self.client = Client(int(line.rpartition(":")[2].partition("/")[0]))

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def collect(self, retention: Retention) -> None:
        store = Store(self.root / "content", durable=True)
        ledger = Ledger(store)
        try:
            gc.collect(store, ledger, retention, settle_s=0)
        finally:
            ledger.close()
            store.close()

    def check(self) -> None:
        """Every tag is what was pushed last, and whole."""
        for repository in REPOSITORIES:
            listed = self.client("GET", f"/v2/{repository}/tags/list")
            tags = listed.json["tags"] if listed.status == 200 else []
            assert sorted(tags) == sorted(tag for name, tag in self.expected if name == repository)
            for tag in tags:
                got = self.client("GET", f"/v2/{repository}/manifests/{tag}")
                assert digest(got.body) == self.expected[repository, tag]
                self._check_whole(repository, got.body)

    def _check_whole(self, repository: str, raw: bytes) -> None:
        document = json.loads(raw)
        for item in (document["config"], *document["layers"]):
            blob = self.client("GET", f"/v2/{repository}/blobs/{item['digest']}")
            assert (blob.status, digest(blob.body)) == (200, item["digest"])

    def learn(self, before: set[tuple[str, str]]) -> None:
        """After a kill, tags that were being pushed may be there or not; what is there must be whole."""
        for key in before:
            got = self.client("GET", f"/v2/{key[0]}/manifests/{key[1]}")
            if got.status == 200:
                self._check_whole(key[0], got.body)
                self.expected[key] = digest(got.body)
            else:
                self.expected.pop(key, None)


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[Killable]:
    server = Killable(tmp_path / "state")  # where the fixture `knarr` looks, too
    yield server
    server.kill()


def push(server: Killable, chance: random.Random) -> None:
    repository, tag = chance.choice(REPOSITORIES), f"v{chance.randrange(4)}"
    layers = chance.sample(LAYERS, chance.randrange(1, 4))
    for layer in layers:
        server.client.push_blob(repository, layer)
    server.client.push_blob(repository, b"{}")
    raw = manifest(*layers, config=b"{}")
    assert server.client("PUT", f"/v2/{repository}/manifests/{tag}", raw).status == 201
    server.expected[repository, tag] = digest(raw)


def mount(server: Killable, chance: random.Random) -> None:
    target = chance.choice(REPOSITORIES)
    answer = server.client("POST", f"/v2/{target}/blobs/uploads/?mount={digest(chance.choice(LAYERS))}")
    assert answer.status in (201, 202)


def delete_tag(server: Killable, chance: random.Random) -> None:
    if server.expected:
        repository, tag = chance.choice(sorted(server.expected))
        assert server.client("DELETE", f"/v2/{repository}/manifests/{tag}").status == 202
        del server.expected[repository, tag]


def delete_manifest(server: Killable, chance: random.Random) -> None:
    if server.expected:
        repository, tag = chance.choice(sorted(server.expected))
        name = server.expected[repository, tag]
        assert server.client("DELETE", f"/v2/{repository}/manifests/{name}").status == 202
        for key in [key for key, value in server.expected.items() if key[0] == repository and value == name]:
            del server.expected[key]


def collect(server: Killable, chance: random.Random) -> None:
    server.collect(chance.choice((AT_ONCE, UNDO)))


def kill(server: Killable, chance: random.Random) -> None:
    """In the middle of pushes and a collection."""
    touched = {(repository, f"v{number}") for repository in REPOSITORIES for number in range(4)}

    def pushing(seed: int) -> None:
        mine = random.Random(seed)
        with suppress(OSError, HTTPException, AssertionError):
            while True:
                push(server, mine)

    threads = [threading.Thread(target=pushing, args=(chance.random(),)) for _ in range(3)]
    threads.append(threading.Thread(target=server.collect, args=(UNDO,)))
    for thread in threads:
        thread.start()
    threading.Event().wait(chance.uniform(0.01, 0.2))
    server.kill()
    for thread in threads:
        thread.join()
    server.start()
    server.learn(touched)


ACTS = (push, push, push, mount, delete_tag, delete_manifest, collect, collect, kill)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_every_image_with_a_tag_can_be_pulled_whole_whatever_happened(killable: Killable, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        chance.choice(ACTS)(killable, chance)
        killable.check()


def test_writers_of_one_tag_and_one_fallback_tag_lose_nothing(killable: Killable) -> None:
    """The last writer of a tag wins, whole; and referrers pushed at once are all listed."""
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(b"s"), "size": 1}
    made: list[str] = []

    def writing(number: int) -> None:
        layer = LAYERS[number % len(LAYERS)]
        killable.client.push_image("a", "same", layer)
        made.append(killable.client.push_image("a", "", layer, subject=subject, annotations={"n": str(number)}))

    threads = [threading.Thread(target=writing, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = killable.client("GET", f"/v2/a/referrers/{subject['digest']}").json["manifests"]
    assert {item["digest"] for item in listed} == set(made)
    assert len(made) == 16
    assert killable.client("GET", "/v2/a/manifests/same").status == 200


def test_the_doctor_leaves_repositories_what_they_had(killable: Killable, knarr: Callable[..., str]) -> None:
    push(killable, random.Random(1))
    database = killable.root / "content/meta.db"
    keep_copy(database)
    push(killable, random.Random(2))
    killable.kill()
    with closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with database.open("r+b") as file:
        file.write(b"garbage " * 512)
    assert "WRONG    meta.db" in knarr("doctor", "--store", status=1)
    assert "meta.db            damaged: moved to" in knarr("doctor", "--store", "--repair")
    killable.start()
    killable.learn(set(killable.expected))
    killable.check()
    assert killable.expected


def test_the_doctor_says_what_a_repository_lacks(killable: Killable, knarr: Callable[..., str]) -> None:
    push(killable, random.Random(1))
    killable.kill()
    knarr("doctor", "--store")
    next(blob for blob in (killable.root / "content/blobs/sha256").iterdir() if blob.stat().st_size > 10).unlink()
    assert "WRONG    registry" in knarr("doctor", "--store", status=1)
    killable.start()
    push(killable, random.Random(1))
    killable.check()
