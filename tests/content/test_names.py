from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from knarr.content.store import Store
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform


def manifest(text: str) -> Descriptor:
    return Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.of(text.encode()), len(text))


def test_a_name_leads_to_what_was_set_last(store: Store) -> None:
    store.names.set("app:1", manifest("one"))
    store.names.set("app:1", manifest("two"))
    found = store.names.get("app:1")
    assert found is not None
    assert found.descriptor == manifest("two")
    assert found.updated_ns > 0


def test_a_descriptor_comes_back_whole(store: Store) -> None:
    full = Descriptor(
        "application/vnd.oci.image.manifest.v1+json",
        Digest.of(b"x"),
        1,
        platform=Platform("linux", "arm", "v7"),
        annotations={"a": "b"},
    )
    store.names.set("app:1", full)
    found = store.names.get("app:1")
    assert found is not None
    assert found.descriptor == full


def test_list_is_sorted_and_takes_a_prefix(store: Store) -> None:
    for name in ("b/x:1", "a/x:2", "a/x:1", "a%x:1"):
        store.names.set(name, manifest(name))
    assert [name.name for name in store.names.list()] == ["a%x:1", "a/x:1", "a/x:2", "b/x:1"]
    assert [name.name for name in store.names.list("a/")] == ["a/x:1", "a/x:2"]


def test_delete_tells_whether_there_was_one(store: Store) -> None:
    store.names.set("app:1", manifest("one"))
    assert store.names.delete("app:1") is True
    assert store.names.delete("app:1") is False
    assert store.names.get("app:1") is None


def test_history_keeps_the_last_ten_changes(store: Store) -> None:
    for number in range(12):
        store.names.set("app:1", manifest(str(number)))
        store.names.set("app:1", manifest(str(number)))  # no change
    history = [name.descriptor for name in store.names.history("app:1")]
    assert history == [manifest(str(number)) for number in range(11, 1, -1)]


def test_threads_and_processes_set_names_at_once(store: Store) -> None:
    store.names.set("first", manifest("first"))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for number in range(50):
                store.names.set(f"child:{number}", manifest("child"))
            status = 0
        finally:
            os._exit(status)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: store.names.set(f"parent:{number}", manifest("parent")), range(50)))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(store.names.list()) == 101
