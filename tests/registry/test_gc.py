"""Collections of a real store, through the server and beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knarr.content import gc as content_gc
from knarr.registry import gc, marks
from knarr.registry.settings import Retention, ServerSettings
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

from .conftest import CONFIG, Running, Start, digest, manifest

AT_ONCE = Retention(grace_s=0, undo_s=0, untagged_s=0)
UNDO = Retention(grace_s=0, undo_s=3600, untagged_s=0)


@pytest.fixture
def running(start: Start) -> Running:
    return start()


def collect(running: Running, retention: Retention, **more: object) -> gc.Collected:
    parts = running.registry.parts
    return gc.collect(parts.store, parts.ledger, retention, settle_s=0, **more)  # type: ignore[arg-type]


def test_what_is_removed_can_be_had_back_and_then_is_freed(running: Running) -> None:
    client = running.client
    name = client.push_image("a", "v1", b"layer")
    client("DELETE", "/v2/a/manifests/v1")

    marked = collect(running, UNDO)
    assert marked.manifests == (f"a@{name}",)
    assert len(marked.blobs) == 2
    assert client("GET", f"/v2/a/manifests/{name}").status == 404
    assert client("GET", f"/v2/a/blobs/{digest(b'layer')}").status == 404
    assert [row[:3] for row in running.registry.parts.ledger.read(marks.gone)][:2] == [
        ("a", "", name),
        ("a", "v1", name),
    ]

    assert running.registry.parts.ledger.write(lambda db: marks.restore(db, "a", "v1"))
    assert client("GET", "/v2/a/manifests/v1").status == 200
    assert client("GET", f"/v2/a/blobs/{digest(b'layer')}").body == b"layer"

    client("DELETE", "/v2/a/manifests/v1")
    collect(running, UNDO)
    freed = collect(running, AT_ONCE)
    assert set(freed.freed) == {name, digest(CONFIG), digest(b"layer")}
    assert not running.store.path(Digest(name)).exists()
    assert not running.registry.parts.ledger.write(lambda db: marks.restore(db, "a", "v1"))


def test_a_dry_run_says_the_same_and_removes_nothing(running: Running) -> None:
    running.client.push_image("a", "v1", b"layer")
    stray = running.client.push_blob("a", b"stray")
    told = collect(running, AT_ONCE, dry_run=True)
    assert told.blobs == (f"a@{stray}",)
    assert running.client("GET", f"/v2/a/blobs/{stray}").status == 200
    assert collect(running, AT_ONCE).blobs == told.blobs


def test_a_blob_of_two_repositories_stays_while_one_needs_it(running: Running) -> None:
    running.client.push_image("a", "v1", b"layer")
    running.client.push_image("b", "v1", b"layer")
    running.client("DELETE", "/v2/a/manifests/v1")
    for _ in range(2):
        collect(running, AT_ONCE)
    assert running.client("GET", f"/v2/a/blobs/{digest(b'layer')}").status == 404
    assert running.client("GET", f"/v2/b/blobs/{digest(b'layer')}").body == b"layer"


def test_a_manifest_that_is_pushed_while_its_blobs_are_marked_has_them_back(start: Start) -> None:
    running = start(ServerSettings(sparse="none"))
    client = running.client
    client.push_blob("a", CONFIG)
    client.push_blob("a", b"layer")
    collect(running, UNDO)
    assert client("HEAD", f"/v2/a/blobs/{digest(b'layer')}").status == 404
    assert client("PUT", "/v2/a/manifests/v1", manifest(b"layer"), Content_Type=mediatype.OCI_MANIFEST).status == 201
    assert client("GET", f"/v2/a/blobs/{digest(b'layer')}").body == b"layer"


def test_what_was_looked_for_lately_is_spared(running: Running) -> None:
    stray = running.client.push_blob("a", b"stray")
    os.utime(running.store.path(Digest(stray)), (1, 1))
    running.client("HEAD", f"/v2/a/blobs/{stray}")
    assert collect(running, Retention(grace_s=60)).blobs == ()


def test_the_build_cache_and_images_of_this_machine_keep_their_blobs(running: Running) -> None:
    client, store = running.client, running.store
    named = client.push_image("a", "v1", b"named")
    cached = client.push_blob("a", b"cached")
    store.tag(Descriptor(mediatype.OCI_MANIFEST, Digest(named), store.find(Digest(named)) or 0), "example.com/x:1")
    client("DELETE", f"/v2/a/manifests/{named}")
    for _ in range(2):
        collect(running, AT_ONCE, roots=lambda: [Digest(cached)])
    for kept in (named, cached, digest(b"named")):
        assert store.path(Digest(kept)).exists()


def test_pruning_the_store_takes_nothing_that_a_repository_has(running: Running) -> None:
    name = running.client.push_image("a", "v1", b"layer")
    loose = running.store.put("text/plain", b"loose")
    freed = content_gc.collect(running.store, grace_s=-1)
    assert freed.blobs == (loose.digest,)
    assert running.client("GET", f"/v2/a/manifests/{name}").status == 200
    assert running.client("GET", f"/v2/a/blobs/{digest(b'layer')}").body == b"layer"


def test_the_server_collects_by_itself(start: Start) -> None:
    running = start(ServerSettings(retention=Retention(grace_s=0, interval_s=0.05)))
    stray = running.client.push_blob("a", b"stray")
    deadline = time.monotonic() + 10
    while running.client("HEAD", f"/v2/a/blobs/{stray}").status == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert running.told[0].startswith("removed 0 tags, 0 manifests and 1 blobs")


def test_when_a_manifest_was_pulled_is_kept_over_a_restart(start: Start) -> None:
    running = start()
    name = running.client.push_image("a", "v1", b"layer")
    running.client("GET", "/v2/a/manifests/v1")
    running.stop()
    ledger = start().registry.parts.ledger
    picture = ledger.read(lambda db: gc.picture_of(db, "a"))
    assert picture.manifests[name].pulled_ns > 0


def knarr(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "knarr", "registry", *words]
    return subprocess.run(command, env={**os.environ, "KNARR_ROOT": str(root)}, capture_output=True, text=True)


def test_the_commands_explain_collect_list_and_restore(start: Start, tmp_path: Path) -> None:
    client = start(root=tmp_path / "content").client
    name = client.push_image("team/app", "v1", b"layer")
    layer = digest(b"layer")

    told = knarr(tmp_path, "gc", "--explain", layer).stdout.splitlines()
    assert told == ["team/app: kept", f"  {layer} is part of", f"  {name} has the tag v1"]
    client("DELETE", "/v2/team/app/manifests/v1")
    done = knarr(tmp_path, "gc", "--grace=0s", "--untagged=0s")
    assert (done.returncode, f"team/app@{name}" in done.stdout.splitlines()) == (0, True)
    assert "removed; can be restored until" in knarr(tmp_path, "gc", "--explain", layer).stdout
    assert f"team/app:v1@{name}" in knarr(tmp_path, "gc", "--gone").stdout
    assert knarr(tmp_path, "restore", "team/app:v1").stdout == "restored team/app:v1\n"
    assert client("GET", "/v2/team/app/manifests/v1").status == 200
    assert knarr(tmp_path, "restore", "team/app:v9").returncode == 1
    unknown = knarr(tmp_path, "gc", "--explain", digest(b"never"))
    assert (unknown.returncode, "no repository has" in unknown.stderr) == (1, True)
    assert knarr(tmp_path, "gc", "--grace=soon").returncode == 2


def test_uploads_go_on_while_collections_run(running: Running) -> None:
    """Each image is whole from its push on, whatever a collector without any grace does in between."""
    import threading

    ended = threading.Event()
    failures: list[BaseException] = []

    def collecting() -> None:
        try:
            while not ended.is_set():
                collect(running, UNDO)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=collecting)
    thread.start()
    try:
        for number in range(40):
            layer = str(number).encode() * 100
            running.client.push_image("a", f"v{number}", layer)
            assert running.client("GET", f"/v2/a/blobs/{digest(layer)}").body == layer
            assert running.client("GET", f"/v2/a/blobs/{digest(CONFIG)}").body == CONFIG
    finally:
        ended.set()
        thread.join()
    assert failures == []
