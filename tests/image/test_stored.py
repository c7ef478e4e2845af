"""Images in a store: by name, by digest, and by what is here of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.content.store import Store
from knarr.errors import NotFound, UsageError
from knarr.image.copy import copy_graph
from knarr.image.stored import images_here, lookup, one_image, platforms_here
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.platform import Platform

ARM64 = Platform.parse("linux/arm64")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "content")
    yield made
    made.close()


def fill(store: Store, images: Any, root: Descriptor, name: str, *platforms: Platform) -> None:
    with Scope() as scope:
        copy_graph(images.layout, store, root, scope=scope, platforms=platforms or None, sparse_target=True)
    store.tag(root, name)


def test_an_image_is_found_by_what_people_write(store: Store, images: Any) -> None:
    root = images.manifest()
    fill(store, images, root, "docker.io/library/app:latest")

    for text in ("app", "app:latest", "docker.io/library/app", str(root.digest), root.digest.hex, root.digest.hex[:12]):
        assert lookup(store, text).descriptor.digest == root.digest
    for text in ("app:2", "other", "sha256:" + "0" * 64, "abc"):
        with pytest.raises(NotFound, match="there is no image"):
            lookup(store, text)


def test_a_name_wins_over_a_digest_that_looks_like_it(store: Store, images: Any) -> None:
    first, second = images.manifest("linux/amd64"), images.manifest("linux/arm64")
    short = first.digest.hex[:6]
    fill(store, images, first, "docker.io/library/first:latest")
    fill(store, images, second, f"docker.io/library/{short}:latest")

    assert lookup(store, short).descriptor.digest == second.digest
    assert lookup(store, f"sha256:{short}").descriptor.digest == first.digest


def test_a_beginning_that_several_share_is_refused(store: Store, images: Any) -> None:
    seen: dict[str, Descriptor] = {}
    for n in range(2000):
        found = images.manifest("linux/amd64", {"f": b"%d" % n})
        other = seen.setdefault(found.digest.hex[:4], found)
        if other.digest != found.digest:
            break
    fill(store, images, other, "a.example/a:1")
    fill(store, images, found, "a.example/b:1")

    with pytest.raises(UsageError, match="several digests"):
        lookup(store, f"sha256:{found.digest.hex[:4]}")


def test_a_sparse_image_tells_what_is_here(store: Store, images: Any) -> None:
    root = images.two_platforms()
    fill(store, images, root, "a.example/a:1", ARM64)
    name = lookup(store, "a.example/a:1")

    (image,) = images_here(store, root)
    assert image.platform == ARM64
    assert image.size_bytes == sum(blob.size for blob in (image.descriptor, *image.manifest.successors))
    assert platforms_here(store, root) == (ARM64,)
    assert one_image(store, name, None).platform == ARM64
    with pytest.raises(NotFound) as caught:
        one_image(store, name, Platform.parse("linux/s390x"))
    assert caught.value.hint == "here are: linux/arm64"


def test_a_whole_image_has_no_platforms_to_single_out(store: Store, images: Any) -> None:
    root = images.two_platforms()
    fill(store, images, root, "a.example/a:1")

    assert platforms_here(store, root) is None
