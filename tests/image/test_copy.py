"""`copy_graph`: what moves, in which order, and what does not have to."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from knarr.content.target import Report
from knarr.errors import Cancelled, ContentError, DigestMismatch, NotFound
from knarr.image.copy import copy_graph
from knarr.image.layout import Layout
from knarr.image.successors import is_document, walk
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.streams import Readable

ARM64 = Platform.parse("linux/arm64")


class Journal:
    """A layout that writes down what is pushed to it, in order."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.pushed: list[Descriptor] = []
        self.open, self.has = layout.open, layout.has

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        self.layout.push(descriptor, content, report=report)
        self.pushed.append(descriptor)


class Sibling(Journal):
    """A target that can mount one blob from `team/base`."""

    mountable: Descriptor

    def mount_from(self, descriptor: Descriptor, repository: str) -> bool:
        return repository == "team/base" and descriptor.digest == self.mountable.digest


def copy(source: Any, target: Any, root: Descriptor, **options: Any) -> Any:
    with Scope() as scope:
        return copy_graph(source, target, root, scope=scope, **options)


def test_everything_arrives_and_children_come_before_parents(images: Any, layout: Callable[[str], Layout]) -> None:
    root = images.two_platforms()
    target = Journal(layout("target"))

    report = copy(images.layout, target, root)

    order = [descriptor.digest for descriptor in target.pushed]
    assert sorted(order) == sorted(descriptor.digest for descriptor in walk(images.layout, root))
    assert order[-1] == root.digest
    first_document = min(n for n, descriptor in enumerate(target.pushed) if is_document(descriptor.media_type))
    assert all(is_document(descriptor.media_type) for descriptor in target.pushed[first_document:])
    assert report.copied_bytes == sum(descriptor.size for descriptor in target.pushed)


def test_what_the_target_has_is_not_sent_again(images: Any, layout: Callable[[str], Layout]) -> None:
    shared = {"shared": b"x" * 1000}
    first = images.manifest("linux/amd64", shared, {"a": b"1"})
    second = images.manifest("linux/amd64", shared, {"a": b"2"})
    target = layout("target")
    copy(images.layout, target, first)

    report = copy(images.layout, target, second)

    assert [descriptor.media_type for descriptor in report.present] == ["application/vnd.oci.image.layer.v1.tar+gzip"]
    assert len(report.copied) == 3  # the other layer, the config, the manifest


def test_a_root_that_is_there_ends_the_copy_at_once(images: Any, layout: Callable[[str], Layout]) -> None:
    root = images.two_platforms()
    target = Journal(layout("target"))
    copy(images.layout, target, root)
    target.pushed.clear()

    report = copy(Nothing(), target, root)

    assert report.copied == ()
    assert [descriptor.digest for descriptor in report.present] == [root.digest]


class Nothing:
    """A source that must not be asked."""

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        raise NotFound(f"{descriptor.digest}: asked for in vain")
        yield io.BytesIO()


def test_one_platform_keeps_the_index_and_its_own_attestation(images: Any, layout: Callable[[str], Layout]) -> None:
    root = images.two_platforms()
    target = layout("target")

    copy(images.layout, target, root, platforms=[ARM64])

    there = [target.has(entry) for entry in images.entries_of(root)]
    assert there == [False, True, False, True]
    assert target.has(root)


def test_a_sparse_target_gets_the_rest_later(images: Any, layout: Callable[[str], Layout]) -> None:
    root = images.two_platforms()
    target = layout("target")
    copy(images.layout, target, root, platforms=[ARM64], sparse_target=True)

    copy(images.layout, target, root, sparse_target=True)

    assert all(target.has(descriptor) for descriptor in walk(images.layout, root))


def test_a_missing_platform_is_told_with_what_there_is(images: Any, layout: Callable[[str], Layout]) -> None:
    with pytest.raises(NotFound) as caught:
        copy(images.layout, layout("target"), images.two_platforms(), platforms=[Platform.parse("linux/s390x")])

    assert "linux/amd64, linux/arm64" in caught.value.hint


def test_a_blob_is_mounted_when_a_sibling_has_it(images: Any, layout: Callable[[str], Layout]) -> None:
    root = images.manifest("linux/amd64", {"base": b"b"}, {"app": b"a"})
    target = Sibling(layout("target"))
    target.mountable = next(d for d in walk(images.layout, root) if "tar" in d.media_type)

    report = copy(images.layout, target, root, mounts_of=lambda blob: ["team/other", "team/base"])

    assert [descriptor.digest for descriptor in report.mounted] == [target.mountable.digest]
    assert target.mountable.digest not in [descriptor.digest for descriptor in target.pushed]


class Liar:
    """Gives other bytes for one blob."""

    def __init__(self, layout: Layout, about: Descriptor) -> None:
        self.layout, self.about = layout, about

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        if descriptor.digest == self.about.digest:
            yield io.BytesIO(bytes(descriptor.size))
            return
        with self.layout.open(descriptor) as stream:
            yield stream


def test_wrong_bytes_leave_no_manifest_behind(images: Any, layout: Callable[[str], Layout]) -> None:
    root = images.manifest()
    layer = next(d for d in walk(images.layout, root) if "tar" in d.media_type)
    target = layout("target")

    with pytest.raises(DigestMismatch):
        copy(Liar(images.layout, layer), target, root)

    assert not target.has(root)
    assert not target.has(layer)


def test_cancelling_stops_the_copy(images: Any, layout: Callable[[str], Layout]) -> None:
    root = images.manifest("linux/amd64", *({f"f{n}": bytes(2000)} for n in range(8)))
    target = layout("target")
    scope = Scope()

    def watch(descriptor: Descriptor, done: int, how: str) -> None:
        scope.cancel()

    with pytest.raises(Cancelled), scope:
        copy_graph(images.layout, target, root, scope=scope, jobs=1, watch=watch)

    assert not target.has(root)


def test_progress_is_told_for_every_descriptor(images: Any, layout: Callable[[str], Layout]) -> None:
    root = images.two_platforms()
    ends: dict[str, str] = {}
    lock = threading.Lock()

    def watch(descriptor: Descriptor, done: int, how: str) -> None:
        with lock:
            if how != "moving":
                assert done == descriptor.size
                ends[descriptor.digest] = how

    copy(images.layout, layout("target"), root, watch=watch)

    assert ends == {descriptor.digest: "copied" for descriptor in walk(images.layout, root)}


def test_indexes_nested_without_end_are_refused(images: Any, layout: Callable[[str], Layout]) -> None:
    root = images.manifest()
    for _ in range(10):
        root = images.index(root)

    with pytest.raises(ContentError, match="nested"):
        copy(images.layout, layout("target"), root)


def test_a_document_on_two_levels_goes_out_before_both_parents(images: Any, layout: Callable[[str], Layout]) -> None:
    leaf = images.manifest()
    inner = images.index(leaf)
    root = images.index(leaf, inner)
    target = Journal(layout("target"))

    copy(images.layout, target, root)

    documents = [descriptor.digest for descriptor in target.pushed if is_document(descriptor.media_type)]
    assert documents == [leaf.digest, inner.digest, root.digest]


def test_embedded_data_is_used_instead_of_the_source(images: Any, layout: Callable[[str], Layout]) -> None:
    empty = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2, data=b"{}")
    target = layout("target")

    copy(Nothing(), target, empty)

    assert target.has(empty)
