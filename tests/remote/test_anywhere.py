"""Content that is here, or in a repository that is known to have it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.content.store import Store
from knarr.errors import KnarrError, NotFound
from knarr.image.successors import successors
from knarr.remote.anywhere import Anywhere
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.scope import Scope
from knarr.session.session import Credentials
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference
from knarr.streams import chunks

pytestmark = pytest.mark.system


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "content")
    yield made
    made.close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(RegistrySettings(), lambda _: Credentials()) as made:
        yield made


def read(anywhere: Anywhere, descriptor: Descriptor) -> bytes:
    with anywhere.open(descriptor) as stream:
        return b"".join(chunks(stream))


def test_the_store_comes_first(store: Store, registry: Registry) -> None:
    known = store.put("text/plain", b"here")

    assert read(Anywhere(store, lambda: registry, Scope()), known) == b"here"


def test_a_known_repository_gives_what_is_not_here_and_what_that_names(
    store: Store, registry: Registry, bases: Any
) -> None:
    place = f"{bases.address}/library/busybox"
    root = registry.repository(Reference.parse(place)).resolve("latest")
    store.sources.add("127.0.0.1:1/gone", [root.digest])
    store.sources.add(place, [root.digest])
    anywhere = Anywhere(store, lambda: registry, Scope())

    assert Digest.of(read(anywhere, root)) == root.digest
    child = successors(anywhere, root)[0]
    assert Digest.of(read(anywhere, child)) == child.digest
    assert anywhere.knows(root)
    assert not anywhere.knows(child)


def test_what_nobody_has_is_told(store: Store, registry: Registry) -> None:
    unknown = Descriptor("", Digest.of(b"unknown"), 7)
    anywhere = Anywhere(store, lambda: registry, Scope())

    with pytest.raises(NotFound, match="no registry is known to have it"):
        read(anywhere, unknown)


def test_the_failure_of_the_last_known_place_is_told(store: Store, registry: Registry, bases: Any) -> None:
    gone = Descriptor("", Digest.of(b"gone"), 4)
    store.sources.add(f"{bases.address}/library/busybox", [gone.digest])

    with pytest.raises(KnarrError, match="not found"):
        read(Anywhere(store, lambda: registry, Scope()), gone)
