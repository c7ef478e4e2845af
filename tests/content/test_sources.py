from __future__ import annotations

from knarr.content.store import Store
from knarr.spec.digest import Digest

A, B = Digest.of(b"a"), Digest.of(b"b")


def test_the_latest_source_comes_first(store: Store) -> None:
    store.sources.add("one.example/app", [A, B])
    store.sources.add("two.example/app", [A])
    assert store.sources.of(A) == ("two.example/app", "one.example/app")
    assert store.sources.of(B) == ("one.example/app",)
    store.sources.add("one.example/app", [A])
    assert store.sources.of(A) == ("one.example/app", "two.example/app")


def test_a_source_can_turn_out_wrong(store: Store) -> None:
    store.sources.add("one.example/app", [A])
    store.sources.remove("one.example/app", A)
    assert store.sources.of(A) == ()
