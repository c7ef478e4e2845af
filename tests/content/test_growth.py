"""A blob that is read while it is written: whole, or with the writer's reason, and never silently wrong."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.content.growth import Following, Growth, Restarted
from knarr.content.store import Store
from knarr.errors import ContentError, DigestMismatch
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import VerifiedReader

DATA = bytes(range(256)) * 10_000
BLOB = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "content")
    yield store
    store.close()


class Slow:
    """A source that gives `data` in pieces, each when it is allowed to."""

    def __init__(self, data: bytes, piece: int = 1 << 20) -> None:
        self._data, self._piece = io.BytesIO(data), piece
        self.allowed = threading.Semaphore(0)

    def read(self, size: int = -1, /) -> bytes:
        assert self.allowed.acquire(timeout=20)
        return self._data.read(self._piece)


def write(store: Store, growth: Growth, *sources: io.BytesIO | Slow | VerifiedReader) -> None:
    """Try one source after the other, as if they were registries."""
    failure: Exception | None = None
    for source in sources:
        try:
            store.push(BLOB, source, growth=growth)
        except ContentError as error:
            failure = error
        else:
            failure = None
            break
    growth.end(failure)


def follow(growth: Growth) -> Following:
    following = growth.follow()
    assert following is not None
    return following


def test_what_is_written_can_be_read_at_once_and_the_end_comes_with_the_commit(store: Store) -> None:
    source, growth = Slow(DATA, 1_000_000), Growth()
    with Scope() as scope:
        scope.start(write, store, growth, source)
        with follow(growth) as stream:
            source.allowed.release()
            first = stream.read(10)
            assert not store.has(BLOB)
            source.allowed.release(100)
            rest = stream.read()
            assert store.has(BLOB)
    assert first + rest == DATA


def test_a_blob_that_is_there_already_is_not_followed(store: Store) -> None:
    growth = Growth()
    write(store, growth, io.BytesIO(DATA))
    assert growth.follow() is None


def read_all(growth: Growth, *sources: Slow) -> bytes:
    """Follow to the end, with all of every source allowed once something was begun."""
    with follow(growth) as stream:
        for source in sources:
            source.allowed.release(100)
        return stream.read()


def choke(growth: Growth, source: Slow) -> None:
    """Follow, and give up at the first bytes."""
    with follow(growth):
        source.allowed.release(100)
        raise ContentError("this is no tar")


def test_wrong_bytes_fail_the_reader_at_the_end_as_they_fail_the_writer(store: Store) -> None:
    source, growth = Slow(DATA[:-1] + b"x"), Growth()
    with Scope() as scope:
        scope.start(write, store, growth, source)
        with pytest.raises(DigestMismatch):
            read_all(growth, source)


def test_a_reader_that_chokes_on_wrong_bytes_hears_that_they_were_wrong(store: Store) -> None:
    source, growth = Slow(b"x" * len(DATA)), Growth()
    with Scope() as scope:
        scope.start(write, store, growth, source)
        with pytest.raises(DigestMismatch):
            choke(growth, source)


def test_a_reader_that_chokes_on_right_bytes_keeps_its_own_reason(store: Store) -> None:
    source, growth = Slow(DATA), Growth()
    with Scope() as scope:
        scope.start(write, store, growth, source)
        with pytest.raises(ContentError, match="this is no tar"):
            choke(growth, source)


def test_a_second_try_of_the_writer_makes_the_reader_begin_again(store: Store) -> None:
    bad, good, growth = Slow(b"x" * len(DATA)), Slow(DATA), Growth()
    with Scope() as scope:
        scope.start(write, store, growth, bad, good)
        following = follow(growth)
        with pytest.raises(Restarted), following:
            read_all(growth, bad, good)
    with store.open(BLOB) as stream:
        assert stream.read() == DATA


def test_an_end_from_outside_frees_a_reader_that_waits(store: Store) -> None:
    source, growth = Slow(DATA), Growth()
    with Scope() as scope:
        scope.start(write, store, growth, source)
        threading.Timer(0.05, growth.end, [KeyError()]).start()
        with pytest.raises(KeyError):
            read_all(growth)
        source.allowed.release(100)


def test_content_that_verifies_itself_is_stored(store: Store) -> None:
    store.push(BLOB, VerifiedReader(io.BytesIO(DATA), BLOB.digest, BLOB.size))
    assert store.has(BLOB)
    assert store.check() == ()


def test_wrong_content_that_verifies_itself_is_not_stored(store: Store) -> None:
    wrong = VerifiedReader(io.BytesIO(DATA[:-1] + b"x"), BLOB.digest, BLOB.size, what="pull of it")
    with pytest.raises(DigestMismatch, match="pull of it"):
        store.push(BLOB, wrong)
    assert not store.has(BLOB)


def test_content_that_proves_another_digest_is_hashed_by_the_store(store: Store) -> None:
    other = b"y" * len(DATA)
    with pytest.raises(DigestMismatch):
        store.push(BLOB, VerifiedReader(io.BytesIO(other), Digest.of(other), len(other)))
