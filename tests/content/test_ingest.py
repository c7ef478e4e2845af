from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from knarr.content.store import Store
from knarr.errors import ContentError


def test_size_and_digest_grow_with_what_is_written(store: Store) -> None:
    with store.ingest() as blob:
        blob.write(b"ab")
        first = blob.digest
        blob.write(b"c")
        assert blob.size == 3
        assert blob.digest != first
        assert blob.commit("text/plain").size == 3


def test_a_full_disk_is_one_clear_error(store: Store) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    pid = os.fork()
    if pid == 0:  # the limit is the process's own
        status = 1
        try:
            limited()
            with store.ingest() as blob:
                blob.write(bytes(200_000))
        except ContentError:
            status = 0 if not os.listdir(store.root / "ingest") else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.root
def test_no_space_left_names_the_place_and_the_way_out(tmp_path: Path) -> None:
    from knarr import linux

    tmp_path.joinpath("small").mkdir()
    linux.mount("tmpfs", str(tmp_path / "small"), "tmpfs", 0, "size=256k")
    try:
        store = Store(tmp_path / "small")
        with pytest.raises(ContentError, match="no space left") as caught, store.ingest() as blob:
            blob.write(bytes(1 << 20))
        assert "knarr prune" in caught.value.hint
        assert os.listdir(store.root / "ingest") == []
        assert store.find(store.put("text/plain", b"small").digest) == 5
    finally:
        linux.umount(str(tmp_path / "small"), linux.MNT_DETACH)
