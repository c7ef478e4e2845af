from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from knarr.content import store as store_module
from knarr.content.store import Store
from knarr.errors import ContentError, DigestMismatch, NotFound, SizeMismatch
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest


def described(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(data), len(data))


def test_put_and_read(store: Store) -> None:
    descriptor = store.put("text/plain", b"hello")
    assert descriptor == Descriptor("text/plain", Digest.of(b"hello"), 5)
    assert store.has(descriptor)
    assert store.find(descriptor.digest) == 5
    assert store.read(descriptor) == b"hello"
    with store.open(descriptor) as stream:
        assert stream.read(2) == b"he"


def test_the_empty_blob_is_a_blob(store: Store) -> None:
    descriptor = store.put("text/plain", b"")
    assert store.has(descriptor)
    assert store.read(descriptor) == b""


def test_root_is_an_oci_layout(store: Store) -> None:
    store.put("text/plain", b"hello")
    assert json.loads((store.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.root / "index.json").read_text())["manifests"] == []
    assert store.path(Digest.of(b"hello")).read_bytes() == b"hello"


def test_what_is_not_there_is_not_found(store: Store) -> None:
    descriptor = described(b"absent")
    assert store.find(descriptor.digest) is None
    assert not store.has(descriptor)
    with pytest.raises(NotFound):
        store.open(descriptor)
    assert store.delete(descriptor.digest) is False


def test_push_refuses_wrong_bytes(store: Store) -> None:
    descriptor = described(b"right")
    with pytest.raises(DigestMismatch):
        store.push(descriptor, io.BytesIO(b"wrong"))
    with pytest.raises(SizeMismatch, match="got more"):
        store.push(descriptor, io.BytesIO(b"right and more"))
    with pytest.raises(SizeMismatch, match="got 3"):
        store.push(descriptor, io.BytesIO(b"rig"))
    assert not store.has(descriptor)
    assert os.listdir(store.root / "ingest") == []


def test_push_reports_progress_and_skips_what_is_there(store: Store) -> None:
    data = bytes(2_500_000)
    seen: list[int] = []
    store.push(described(data), io.BytesIO(data), report=seen.append)
    assert seen == [1 << 20, 2 << 20, 2_500_000]
    unread = io.BytesIO(data)
    store.push(described(data), unread)
    assert unread.tell() == 0


def test_open_with_another_size_is_refused(store: Store) -> None:
    store.put("text/plain", b"hello")
    with pytest.raises(SizeMismatch, match="expected 6 bytes, got 5"):
        store.open(Descriptor("text/plain", Digest.of(b"hello"), 6))


def test_sha512_blobs_have_their_own_directory(store: Store) -> None:
    with store.ingest(algorithm="sha512") as blob:
        blob.write(b"hello")
        descriptor = blob.commit("text/plain")
    assert descriptor.digest.algorithm == "sha512"
    assert store.read(descriptor) == b"hello"
    assert (store.root / "blobs/sha512" / descriptor.digest.hex).exists()


def test_leaving_an_ingest_without_commit_drops_it(store: Store) -> None:
    with store.ingest() as blob:
        blob.write(b"half")
    assert os.listdir(store.root / "ingest") == []
    assert list(store.walk()) == []


def test_link_in_copies_and_never_shares(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"first" * 1000)
    descriptor = store.link_in(file, "text/plain")
    file.write_bytes(b"other" * 1000)
    assert store.read(descriptor) == b"first" * 1000


def test_link_in_from_another_file_system(store: Store) -> None:
    with open("/proc/self/status", "rb") as file:
        assert file.read(5) == b"Name:"
    descriptor = store.link_in(Path("/proc/version"))
    assert store.read(descriptor) == Path("/proc/version").read_bytes()


def test_check_names_the_damaged(store: Store) -> None:
    good, bad = store.put("text/plain", b"good"), store.put("text/plain", b"bad")
    store.path(bad.digest).write_bytes(b"dab")
    seen: list[Digest] = []
    assert store.check(on_each=seen.append) == (bad.digest,)
    assert sorted(seen) == sorted((good.digest, bad.digest))
    with pytest.raises(DigestMismatch, match="damaged in the store"):
        store.read(bad)


def test_read_refuses_to_hold_a_layer(store: Store) -> None:
    with pytest.raises(ContentError, match="too many to read at once"):
        store.read(Descriptor("text/plain", Digest.of(b""), 9 << 20))


def test_a_blob_the_last_boot_left_damaged_is_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = store.put("text/plain", b"whole"), store.put("text/plain", b"cut off")
    os.truncate(store.path(cut.digest), 0)
    monkeypatch.setattr(store_module, "_boot_time", lambda: time.time() + 1)  # as if everything were of the last boot
    assert store.find(cut.digest) is None
    assert not store.path(cut.digest).exists()
    assert store.find(whole.digest) == 5
    assert store.path(whole.digest).stat().st_mode & 0o777 == 0o444  # and it is not hashed again


def test_durable_blobs_begin_trusted(tmp_path: Path) -> None:
    store = Store(tmp_path, durable=True)
    descriptor = store.put("text/plain", b"kept")
    assert store.path(descriptor.digest).stat().st_mode & 0o777 == 0o444


def test_a_use_is_noted(store: Store) -> None:
    descriptor = store.put("text/plain", b"old")
    os.utime(store.path(descriptor.digest), (1, 1))
    assert store.has(descriptor)
    assert time.time() - store.path(descriptor.digest).stat().st_mtime < 60


def test_tag_and_resolve(store: Store) -> None:
    manifest = store.put(
        "application/vnd.oci.image.index.v1+json",
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
    )
    store.tag(manifest, "registry.example/app:1")
    assert store.resolve("registry.example/app:1") == manifest
    assert store.resolve(manifest.digest) == manifest
    with pytest.raises(NotFound, match="no image is named nothing"):
        store.resolve("nothing")
    with pytest.raises(NotFound):
        store.tag(described(b"absent"), "registry.example/app:2")


def test_many_threads_one_blob(store: Store) -> None:
    data = os.urandom(3_000_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.push(described(data), io.BytesIO(data)), range(16)))
    assert store.check() == ()
    assert [digest for digest, _ in store.walk()] == [Digest.of(data)]


WRITER = """
import io, sys
from pathlib import Path
from knarr.content.store import Store
store = Store(Path(sys.argv[1]))
print("ready", flush=True)
number = int(sys.argv[2])
for n in range(number, number + int(sys.argv[3])):
    with store.ingest() as blob:
        for _ in range(20):
            blob.write(n.to_bytes(8, "big") * 8192)
        blob.commit()
print("done", flush=True)
"""


def writer(store: Store, first: int, count: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", WRITER, str(store.root), str(first), str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE)


def test_a_killed_writer_leaves_no_corrupt_blob(store: Store) -> None:
    for turn in range(5):
        with writer(store, turn * 1000, 1000) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.03)
            process.send_signal(signal.SIGKILL)
    assert store.check() == ()
    assert len(list(store.walk())) > 0
    store.sweep_ingest()
    assert os.listdir(store.root / "ingest") == []


def test_a_living_writer_keeps_its_file(store: Store) -> None:
    with store.ingest() as blob:
        blob.write(b"still going")
        assert store.sweep_ingest() == 0
        descriptor = blob.commit()
    assert store.has(descriptor)


def test_two_processes_write_the_same_blobs(store: Store) -> None:
    with writer(store, 0, 50) as one, writer(store, 0, 50) as two:
        assert one.wait() == 0
        assert two.wait() == 0
    assert len(list(store.walk())) == 50
    assert store.check() == ()
    assert os.listdir(store.root / "ingest") == []


def test_closing_drops_what_nobody_will_finish(store: Store) -> None:
    abandoned = store.ingest()  # an interrupt came before its `with` block was entered
    abandoned.write(b"half")
    store.close()
    assert os.listdir(store.root / "ingest") == []
    abandoned.abort()
