from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from knarr.content.gc import collect
from knarr.content.store import Store
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_index, encode_manifest


def image(store: Store, name: str) -> tuple[Descriptor, set[Digest]]:
    """An index of one manifest of one layer; returns the index and all digests."""
    config = store.put(mediatype.OCI_CONFIG, f'{{"name":"{name}"}}'.encode())
    layer = store.put(mediatype.OCI_LAYER, f"layer of {name}".encode())
    manifest = encode_manifest(config, [layer])
    index = encode_index([store.put(manifest.media_type, manifest.raw)])
    top = store.put(index.media_type, index.raw)
    return top, {config.digest, layer.digest, manifest.descriptor.digest, top.digest}


def present(store: Store) -> set[Digest]:
    return {digest for digest, _ in store.walk()}


def test_what_a_name_reaches_stays(store: Store) -> None:
    top, kept = image(store, "kept")
    _, lost = image(store, "lost")
    store.names.set("kept", top)
    freed = collect(store, grace_s=-1)
    assert set(freed.blobs) == lost
    assert freed.size_bytes > 0
    assert present(store) == kept


def test_what_a_lease_holds_stays(store: Store) -> None:
    top, kept = image(store, "kept")
    with store.leases.take(top.digest):
        assert collect(store, grace_s=-1).blobs == ()
    assert set(collect(store, grace_s=-1).blobs) == kept


def test_what_the_caller_holds_stays(store: Store) -> None:
    layer = store.put(mediatype.OCI_LAYER, b"a layer of a cache record")
    assert collect(store, roots=lambda: [layer.digest], grace_s=-1).blobs == ()
    assert collect(store, grace_s=-1).blobs == (layer.digest,)


def test_what_was_used_lately_stays(store: Store) -> None:
    fresh, old = store.put("", b"fresh"), store.put("", b"old")
    os.utime(store.path(old.digest), (1, 1))
    assert collect(store).blobs == (old.digest,)
    assert present(store) == {fresh.digest}


def test_a_dry_run_removes_nothing(store: Store) -> None:
    _, lost = image(store, "lost")
    freed = collect(store, grace_s=-1, dry_run=True)
    assert set(freed.blobs) == lost
    assert present(store) == lost


def test_a_name_may_lead_to_absent_blobs(store: Store) -> None:
    top, kept = image(store, "lazy")
    store.names.set("lazy", top)
    for digest in kept - {top.digest}:
        store.delete(digest)
    assert collect(store, grace_s=-1).blobs == ()


def test_a_layer_that_looks_like_a_manifest_is_no_root_of_anything(store: Store) -> None:
    odd = store.put(mediatype.OCI_LAYER, b'{"schemaVersion": 2, "manifests": "nonsense"')
    store.names.set("odd", odd)
    assert collect(store, grace_s=-1).blobs == ()


def test_what_gets_a_name_while_we_collect_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    top, kept = image(store, "late")
    marked_first = store.names.list

    def then_named(prefix: str = "") -> object:
        answer = marked_first(prefix)
        monkeypatch.undo()
        store.names.set("late", top)
        return answer

    monkeypatch.setattr(store.names, "list", then_named)
    assert collect(store, grace_s=-1).blobs == ()
    assert present(store) == kept


def collecting_one_by_one(store: Store, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Collect, one blob under each hold of the lock; `act` happens between the first and the second."""
    acts = [act]
    pause = time.sleep

    def pausing(seconds: float) -> None:
        pause(seconds)
        if acts:
            acts.pop()()

    monkeypatch.setattr("knarr.content.gc._BATCH", 1)
    monkeypatch.setattr("knarr.content.gc.time.sleep", pausing)
    collect(store, grace_s=-1)


def test_what_gets_a_name_between_two_deletions_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("", b"is the first to go")
    layers = [store.put(mediatype.OCI_LAYER, f"layer {number}".encode()) for number in range(20)]
    here: set[Digest] = set()

    def name() -> None:
        left = [layer for layer in layers if store.find(layer.digest) is not None]
        manifest = encode_manifest(store.put(mediatype.OCI_CONFIG, b"{}"), left)
        store.names.set("late", store.put(manifest.media_type, manifest.raw))
        here.update(layer.digest for layer in left)

    collecting_one_by_one(store, monkeypatch, name)
    assert len(here) >= 19
    assert here <= present(store)


def test_what_a_late_manifest_under_an_old_name_needs_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [store.put(mediatype.OCI_LAYER, f"layer {number}".encode()) for number in range(20)]
    manifest = encode_manifest(store.put(mediatype.OCI_CONFIG, b"{}"), layers)
    store.names.set("sparse", manifest.descriptor)
    collecting_one_by_one(store, monkeypatch, lambda: store.put(manifest.media_type, manifest.raw))
    assert len(present(store)) >= 21  # all but the one that went before


def test_cancellation_stops_between_blobs(store: Store) -> None:
    image(store, "lost")
    calls: list[None] = []

    def check() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(store, grace_s=-1, check=check)
    assert len(present(store)) == 3


def test_half_written_blobs_of_the_dead_go(store: Store) -> None:
    store.put("", b"")
    left = Path(store.root, "ingest", "1-1-dead")
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    assert collect(store).ingest_bytes == 4
    assert not left.exists()
