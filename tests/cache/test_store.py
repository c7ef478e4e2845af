from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from knarr import disk
from knarr.cache.record import Record
from knarr.cache.store import CacheStore
from knarr.errors import Bug, ContentError, NotFound
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

BLOB = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(b"blob"), 4, annotations={"a": "b"})
WHOLE = Record(
    id="r",
    parent="p",
    snapshot="s",
    blob=BLOB,
    diff_id=Digest.of(b"layer"),
    same_as="q",
    remote=("host/a", "host/b"),
    kind="source.local",
    description="RUN make",
    size_bytes=5,
    created_ns=6,
    used_ns=7,
    uses=8,
    history={"created_by": "RUN make"},
)


@pytest.fixture
def store(tmp_path: Path) -> CacheStore:
    return CacheStore(tmp_path / "state" / "cache.db")


def test_a_record_comes_back_as_it_was_saved(store: CacheStore) -> None:
    store.save(WHOLE)
    assert store.get("r") == WHOLE


def test_a_record_is_found_by_each_of_its_keys(store: CacheStore) -> None:
    store.save(WHOLE, ["fast", "slow"])
    store.link("another", "r")
    assert {key: store.lookup(key) for key in ("fast", "slow", "another")} == dict.fromkeys(
        ("fast", "slow", "another"), WHOLE
    )


def test_nothing_is_found_where_nothing_is(store: CacheStore) -> None:
    assert store.lookup("key") is None
    assert store.get("r") is None
    assert store.lookup_many([]) == {}
    assert store.all() == ()


def test_many_keys_are_looked_up_at_once(store: CacheStore) -> None:
    store.save_many((Record(f"r{i}", snapshot="s", created_ns=1), (f"k{i}",)) for i in range(1200))
    found = store.lookup_many([f"k{i}" for i in range(1300)])
    assert {key: record.id for key, record in found.items()} == {f"k{i}": f"r{i}" for i in range(1200)}


def test_a_key_leads_to_the_record_that_was_saved_last(store: CacheStore) -> None:
    store.save(Record("old", snapshot="s"), ["key"])
    store.save(Record("new", snapshot="s"), ["key"])
    found = store.lookup("key")
    assert found is not None
    assert found.id == "new"


def test_a_chain_is_given_from_the_bottom_up(store: CacheStore) -> None:
    for record, parent in (("top", "middle"), ("middle", "bottom"), ("bottom", None)):
        store.save(Record(record, parent=parent, snapshot=record))
    assert [record.id for record in store.chain("top")] == ["bottom", "middle", "top"]


def test_a_broken_chain_says_which_link_is_gone(store: CacheStore) -> None:
    store.save(Record("top", parent="middle", snapshot="s"))
    with pytest.raises(NotFound, match="middle"):
        store.chain("top")
    with pytest.raises(NotFound, match="nowhere"):
        store.chain("nowhere")


def test_children_are_those_that_need_a_record(store: CacheStore) -> None:
    store.save(Record("base", snapshot="s"))
    store.save(Record("child", parent="base", snapshot="s"))
    store.save(Record("rebased", same_as="base"))
    assert {record.id for record in store.children("base")} == {"child", "rebased"}


def test_update_sets_what_is_named_and_nothing_else(store: CacheStore) -> None:
    store.save(Record("r", snapshot="s", created_ns=1))
    store.update("r", blob=BLOB, diff_id=Digest.of(b"layer"), remote=("host/a",))
    assert store.get("r") == Record(
        "r", snapshot="s", created_ns=1, blob=BLOB, diff_id=Digest.of(b"layer"), remote=("host/a",)
    )


def test_update_of_nothing_or_of_the_unknown_is_refused(store: CacheStore) -> None:
    with pytest.raises(NotFound):
        store.update("r", snapshot="s")
    with pytest.raises(Bug):
        store.update("r", colour="red")
    with pytest.raises(Bug):
        store.update("r", id="other")


def test_touch_moves_the_last_use_forward_only(store: CacheStore) -> None:
    store.save(Record("r", snapshot="s", used_ns=100))
    store.touch(["r", "unknown"], now_ns=50)
    store.touch(["r"], now_ns=200)
    found = store.get("r")
    assert found is not None
    assert (found.used_ns, found.uses) == (200, 2)


def test_a_removed_record_takes_its_keys_along(store: CacheStore) -> None:
    store.save(Record("r", snapshot="s"), ["key"])
    store.save(Record("stays", snapshot="s"), ["other"])
    store.remove("r", "unknown")
    assert store.lookup("key") is None
    assert store.lookup("other") is not None


def test_ensure_keeps_what_is_there_and_adds_repositories(store: CacheStore) -> None:
    store.save(Record("layer:1", snapshot="unpacked", remote=("host/a",), created_ns=1))
    now = store.ensure(
        [
            Record("layer:1", blob=BLOB, diff_id=Digest.of(b"1"), remote=("host/a", "host/b"), created_ns=2),
            Record("layer:2", parent="layer:1", blob=BLOB, diff_id=Digest.of(b"2"), created_ns=2),
        ]
    )
    assert now == store.chain("layer:2")
    assert now[0] == Record("layer:1", snapshot="unpacked", remote=("host/a", "host/b"), created_ns=1)


def test_a_record_without_result_is_replaced_by_ensure(store: CacheStore) -> None:
    store.save(Record("layer:1", created_ns=1))
    (now,) = store.ensure([Record("layer:1", blob=BLOB, diff_id=Digest.of(b"1"), created_ns=2)])
    assert now.blob == BLOB


def test_the_last_eight_runs_of_a_step_are_remembered(store: CacheStore) -> None:
    for number in range(10):
        store.remember("RUN make", {"env A": str(number)}, now_ns=number + 1)
    store.remember("RUN other", {"env A": "x"})
    assert store.recall("RUN make") == [{"env A": str(number)} for number in range(9, 1, -1)]
    assert store.recall("RUN make", before_ns=4) == [{"env A": "2"}]
    assert store.recall("RUN never") == []


def test_runs_of_steps_that_begin_alike_are_found_newest_first(store: CacheStore) -> None:
    for number, step in enumerate(["a\tRUN x", "a\tRUN y", "a\tRUNX", "b\tRUN x"], 1):
        store.remember(step, {"n": str(number)}, now_ns=number)
    assert store.recall_like("a\tRUN ") == [("a\tRUN y", {"n": "2"}), ("a\tRUN x", {"n": "1"})]
    assert store.recall_like("a\tRUN ", before_ns=2) == [("a\tRUN x", {"n": "1"})]


def test_a_closed_store_opens_again(store: CacheStore) -> None:
    store.save(WHOLE)
    store.close()
    assert store.get("r") == WHOLE


def test_many_threads_write_and_read(store: CacheStore) -> None:
    def work(name: str) -> None:
        for number in range(20):
            store.save(Record(f"{name}{number}", snapshot="s"), [f"key {name}{number}"])
            assert store.lookup(f"key {name}{number}") is not None

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.all()) == 120


WRITER = """
import sys
from pathlib import Path
from knarr.cache.record import Record
from knarr.cache.store import CacheStore
store = CacheStore(Path(sys.argv[1]))
number = 0
while number < int(sys.argv[3]):
    store.save(Record(f"{sys.argv[2]}{number}", snapshot="s"), [f"key {sys.argv[2]}{number}"])
    number += 1
    print(number, flush=True)
"""


def test_several_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name, "30"], stdout=subprocess.DEVNULL) for name in "abcd"]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert len(CacheStore(path).all()) == 120


def test_a_killed_writer_leaves_a_store_with_all_that_it_had_saved(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "r", "100000"], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        saved = 0
        while saved < 50:
            saved = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    store = CacheStore(path)
    assert all(store.lookup(f"key r{number}") is not None for number in range(saved))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


FILLER = """
import subprocess, sys
from pathlib import Path
from knarr.cache.record import Record
from knarr.cache.store import CacheStore
from knarr.errors import ContentError
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=True)
store = CacheStore(disk / "cache.db")
saved = 0
try:
    while True:
        store.save(Record(f"r{saved}", description="x" * 20000))
        saved += 1
except ContentError as error:
    print(error.hint)
assert 0 < saved == len(store.all()), saved
store.close()
assert saved == len(CacheStore(disk / "cache.db").all())
"""


@pytest.mark.root
def test_a_full_disk_is_told_and_what_was_saved_stays(tmp_path: Path) -> None:
    command = ["unshare", "--mount", sys.executable, "-c", FILLER, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == f"{disk.ROOM}\n"


def test_a_damaged_file_is_told_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(b"not a database, and long enough to be looked at" * 100)
    with pytest.raises(ContentError, match="not a database") as caught:
        CacheStore(path).all()
    assert "--repair" in caught.value.hint


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ContentError, match="format 99"):
        CacheStore(path).all()


def test_a_failed_write_changes_nothing(store: CacheStore) -> None:
    broken = Record("r2", snapshot="s", size_bytes="many")  # type: ignore[arg-type]  # refused by SQLite below
    store.save(Record("r1", snapshot="s"))
    bad = Record("r3", snapshot=object())  # type: ignore[arg-type]  # SQLite takes no such value
    with pytest.raises(ContentError):
        store.save_many([(broken, ["key"]), (bad, [])])
    assert [record.id for record in store.all()] == ["r1"]
    assert store.lookup("key") is None


def test_a_warm_build_of_two_hundred_steps_looks_up_in_no_time(store: CacheStore) -> None:
    store.save_many((Record(f"r{i}", parent=f"r{i - 1}", snapshot=f"r{i}"), (f"k{i}",)) for i in range(5000))
    store.lookup("k0")
    took = []
    for _ in range(5):
        began = time.perf_counter()
        assert len(store.lookup_many([f"k{i}" for i in range(0, 5000, 25)])) == 200
        took.append(time.perf_counter() - began)
    assert min(took) < 0.005


def test_the_wal_stays_and_the_next_store_goes_on_with_it(tmp_path: Path) -> None:
    wal, sizes = tmp_path / "cache.db-wal", []
    for number in range(200):
        store = CacheStore(tmp_path / "cache.db")
        assert store.get(f"r{number - 1}") is not None or number == 0
        store.save(Record(f"r{number}", description="x" * 3000))
        store.close()
        sizes.append(wal.stat().st_size if wal.exists() else 0)
    assert sizes[0]
    assert sizes.count(0) in range(2, 10)
    assert max(sizes) < 1.5 * 2**20
    with sqlite3.connect(tmp_path / "cache.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM record").fetchone() == (200,)
    database.close()


def test_a_deleted_file_takes_its_wal_along(tmp_path: Path) -> None:
    store = CacheStore(tmp_path / "cache.db")
    store.save(Record("old"))
    store.close()
    (tmp_path / "cache.db").unlink()
    assert (tmp_path / "cache.db-wal").exists()

    assert store.get("old") is None
    store.save(Record("new"))
    store.close()
    assert store.get("new") is not None
    store.close()
