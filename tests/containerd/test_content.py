from __future__ import annotations

import io
import os
import threading

import pytest

from knarr.containerd.client import Containerd
from knarr.containerd.content import Content, _ref, _Write
from knarr.containerd.images import Images
from knarr.containerd.lease import leased
from knarr.errors import DigestMismatch, NotFound, SizeMismatch
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import CHUNK

from .conftest import Running

pytestmark = [pytest.mark.root, pytest.mark.system]


def blob(data: bytes) -> Descriptor:
    return Descriptor(mediatype.OCI_LAYER, Digest.of(data), len(data))


@pytest.mark.parametrize("size", [0, 1, CHUNK, 9 * CHUNK + 17])
def test_a_blob_is_read_as_it_was_written(daemon: Containerd, size: int) -> None:
    data = os.urandom(size)
    with leased(daemon) as held:
        content = Content(held)
        content.push(blob(data), io.BytesIO(data), labels={"a.b/c": "d"})
        assert content.has(blob(data))
        assert content.labels(blob(data).digest)["a.b/c"] == "d"
        with content.open(blob(data)) as stream:
            assert b"".join(iter(lambda: stream.read(CHUNK), b"")) == data


def test_a_blob_that_is_there_is_not_read_from_the_source(daemon: Containerd) -> None:
    data = os.urandom(100)
    with leased(daemon) as held:
        Content(held).push(blob(data), io.BytesIO(data))
        source = io.BytesIO(data)
        Content(held).push(blob(data), source)
        assert source.tell() == 0


def test_what_another_namespace_has_is_not_sent_again(running: Running, daemon: Containerd) -> None:
    data = os.urandom(3 * CHUNK)
    with leased(daemon) as held, leased(daemon.within("default")) as other:
        Content(held).push(blob(data), io.BytesIO(data))
        sent: list[int] = []
        Content(other).push(blob(data), io.BytesIO(data), report=sent.append)
        assert sent == []
        assert Content(other).has(blob(data))


def test_a_write_goes_on_where_a_killed_one_stopped(daemon: Containerd) -> None:
    data = os.urandom(5 * CHUNK)
    with leased(daemon) as held:
        half = _Write(Content(held)._caller, held, _ref(blob(data)), blob(data))
        assert half.begin() == 0
        with pytest.raises(SizeMismatch):
            half.send(io.BytesIO(data[: 2 * CHUNK]), 0, None)
        while half._unanswered:
            half._answer()
        half.end()
        told: list[int] = []
        Content(held).push(blob(data), io.BytesIO(data), report=told.append)
        assert told[0] == 3 * CHUNK
        with Content(held).open(blob(data)) as stream:
            assert stream.read() == data


def test_a_damaged_rest_of_an_earlier_write_is_thrown_away(daemon: Containerd) -> None:
    data = os.urandom(3 * CHUNK)
    with leased(daemon) as held:
        content = Content(held)
        half = _Write(content._caller, held, _ref(blob(data)), blob(data))
        half.begin()
        with pytest.raises(SizeMismatch):
            half.send(io.BytesIO(os.urandom(CHUNK)), 0, None)
        while half._unanswered:
            half._answer()
        half.end()
        with pytest.raises(DigestMismatch, match="containerd has received something else"):
            content.push(blob(data), io.BytesIO(data))
        content.push(blob(data), io.BytesIO(data))
        assert content.has(blob(data))


@pytest.mark.parametrize("change", [-1, 1])
def test_a_source_of_another_size_leaves_nothing(daemon: Containerd, change: int) -> None:
    data = os.urandom(CHUNK + 5)
    lie = Descriptor(mediatype.OCI_LAYER, Digest.of(data), len(data) + change)
    with leased(daemon) as held:
        with pytest.raises(SizeMismatch):
            Content(held).push(lie, io.BytesIO(data))
        assert Content(held).find(lie.digest) is None


def test_two_writers_of_one_blob_both_succeed(daemon: Containerd) -> None:
    data = os.urandom(8 * CHUNK)
    with leased(daemon) as held:
        failures: list[BaseException] = []

        def write() -> None:
            try:
                Content(held).push(blob(data), io.BytesIO(data))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert Content(held).has(blob(data))


def test_what_nothing_holds_is_collected_and_then_told_as_gone(running: Running, daemon: Containerd) -> None:
    data, kept = os.urandom(1000), os.urandom(10)
    with leased(daemon, sync=True) as held:
        Content(held).push(blob(data), io.BytesIO(data))
        Content(held).push(blob(kept), io.BytesIO(kept))
        Images(held).set("registry.example/kept:1", blob(kept))
        running.collect(daemon.namespace)
        assert Content(daemon).has(blob(data))
    assert not Content(daemon).has(blob(data))
    assert Content(daemon).has(blob(kept))
    with pytest.raises(NotFound, match="not any more") as caught, Content(daemon).open(blob(data)) as stream:
        stream.read()
    assert "collector" in caught.value.hint
