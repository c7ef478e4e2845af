from __future__ import annotations

import io

import pytest

from knarr.content.memory import MemoryStore
from knarr.content.target import BlobStore, Resolver, Tagger
from knarr.errors import DigestMismatch, NotFound, SizeMismatch
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest


def test_it_is_a_store() -> None:
    memory = MemoryStore()
    store: BlobStore = memory
    names: tuple[Resolver, Tagger] = (memory, memory)
    descriptor = store.put("text/plain", b"hello")
    names[1].tag(descriptor, "app:1")
    assert names[0].resolve("app:1") == descriptor
    assert store.read(descriptor) == b"hello"
    assert store.find(descriptor.digest) == 5


def test_damage_shows_when_read() -> None:
    store = MemoryStore()
    descriptor = store.put("text/plain", b"hello")
    store.blobs[descriptor.digest] = b"hallo"
    with pytest.raises(DigestMismatch), store.open(descriptor) as stream:
        stream.read()


def test_push_refuses_wrong_bytes() -> None:
    store = MemoryStore()
    descriptor = Descriptor("text/plain", Digest.of(b"right"), 5)
    with pytest.raises(DigestMismatch):
        store.push(descriptor, io.BytesIO(b"wrong"))
    with pytest.raises(SizeMismatch):
        store.push(descriptor, io.BytesIO(b"long wrong"))
    assert not store.has(descriptor)
    store.push(descriptor, io.BytesIO(b"right"))
    assert store.has(descriptor)


def test_what_is_not_there() -> None:
    store = MemoryStore()
    with pytest.raises(NotFound):
        store.resolve("nothing")
    assert store.delete(Digest.of(b"")) is False
