from __future__ import annotations

import os
import subprocess
import sys

from knarr.content.store import Store
from knarr.spec.digest import Digest

A, B = Digest.of(b"a"), Digest.of(b"b")


def test_a_lease_holds_until_it_is_released(store: Store) -> None:
    with store.leases.take(A) as lease:
        lease.add(B)
        assert store.leases.held() == {A, B}
    assert store.leases.held() == set()


def test_two_leases_on_one_digest(store: Store) -> None:
    with store.leases.take(A):
        with store.leases.take(A):
            pass
        assert store.leases.held() == {A}


def test_an_expired_lease_holds_nothing(store: Store) -> None:
    store.leases.take(A, ttl_s=0)
    assert store.leases.held() == set()
    assert store.leases.sweep() == 1


def test_a_living_process_keeps_its_leases(store: Store) -> None:
    with store.leases.take(A):
        assert store.leases.sweep() == 0
        assert store.leases.held() == {A}


def test_a_dead_process_keeps_nothing(store: Store) -> None:
    script = (
        "import os, sys; from pathlib import Path; from knarr.content.store import Store;"
        "from knarr.spec.digest import Digest;"
        "Store(Path(sys.argv[1])).leases.take(Digest.of(b'a')); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(store.root)]).returncode == -9
    assert store.leases.sweep() == 1
    assert store.leases.held() == set()
    assert os.listdir(store.root / "owners") == []


def test_close_gives_the_leases_up(store: Store) -> None:
    store.leases.take(A)
    store.close()
    assert Store(store.root).leases.sweep() == 1
