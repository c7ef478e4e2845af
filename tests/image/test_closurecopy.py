"""Copies of everything that belongs to an image, through registries with and without the referrers API and a layout."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import DigestMismatch, NotFound
from knarr.image.closure import Wanted
from knarr.image.copy import each
from knarr.image.layoutrepository import LayoutRepository
from knarr.image.wholecopy import CopyOptions, copy_whole
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings, RetryBudget
from knarr.scope import Scope
from knarr.session.session import Credentials
from knarr.spec.reference import Reference
from knarr.spec.referrers import fallback_tag
from tests.image.universe import Universe
from tests.remote.fakeregistry import FakeRegistry

SETTINGS = RegistrySettings(hosts_dirs=(), retry=RetryBudget(first_wait_s=0.01), read_timeout_s=5.0)


@pytest.fixture
def client() -> Iterator[Registry]:
    with Registry(SETTINGS, lambda _: Credentials()) as client:
        yield client


@pytest.fixture
def registries() -> Iterator[tuple[FakeRegistry, FakeRegistry]]:
    """One without the referrers API, one with it."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(FakeRegistry(referrers=known)) for known in (False, True))  # type: ignore[misc]


def copy(source: Any, target: Any, *, tag: str = "1", **options: Any) -> Any:
    with Scope() as scope:
        return copy_whole(source, source.resolve(tag), target, tags=[tag], scope=scope, **options)


def test_nothing_is_lost_between_registries_and_a_layout(
    registries: tuple[FakeRegistry, FakeRegistry], client: Registry, tmp_path: Path
) -> None:
    without, having = registries
    universe = Universe()
    places: list[Any] = [
        client.repository(Reference.parse(f"{without.host}/team/app")),
        LayoutRepository.create(tmp_path / "layout"),
        client.repository(Reference.parse(f"{having.host}/team/app")),
        LayoutRepository.create(tmp_path / "second"),
        client.repository(Reference.parse(f"{without.host}/back/again")),
    ]
    universe.push_to(places[0], "1")

    for source, target in pairwise(places):
        result = copy(source, target)

        assert {node.descriptor.digest for node in result.outcome.kept} == universe.digests
        assert result.outcome.lost == ()
        universe.assert_at(target, "1")
    assert not any(tag == fallback_tag(universe.root.digest) for _, tag in having.tags)


def test_a_registry_that_forgets_what_it_took_is_found_out(
    registries: tuple[FakeRegistry, FakeRegistry], client: Registry, tmp_path: Path
) -> None:
    _, having = registries
    universe = Universe()
    layout = LayoutRepository.create(tmp_path / "layout")
    universe.push_to(layout, "1")
    target = client.repository(Reference.parse(f"{having.host}/app"))
    having.fail("PUT", f"/manifests/{universe.sbom.descriptor.digest}", times=1, status=201)

    result = copy(layout, target)

    # Its subject's list did not show it, so it was sent once more.
    assert result.outcome.lost == ()
    assert len(having.requests("PUT", f"/manifests/{universe.sbom.descriptor.digest}")) == 2


def test_what_the_target_keeps_losing_is_told_as_lost(
    registries: tuple[FakeRegistry, FakeRegistry], client: Registry, tmp_path: Path
) -> None:
    _, having = registries
    universe = Universe()
    layout = LayoutRepository.create(tmp_path / "layout")
    universe.push_to(layout, "1")
    having.fail("PUT", f"/manifests/{universe.child_sbom.descriptor.digest}", times=9, status=201)
    target = client.repository(Reference.parse(f"{having.host}/app"))

    result = copy(layout, target)

    assert [one.node.descriptor.digest for one in result.outcome.lost] == [universe.child_sbom.descriptor.digest]


def test_referrers_that_others_copied_without_listing_them_are_listed(client: Registry, tmp_path: Path) -> None:
    with FakeRegistry(referrers=False) as plain:
        universe = Universe()
        layout = LayoutRepository.create(tmp_path / "layout")
        universe.push_to(layout, "1")
        target = client.repository(Reference.parse(f"{plain.host}/app"))
        universe.push_to(target, "1")
        for name in [name for name in plain.tags if fallback_tag(universe.root.digest) == name[1]]:
            del plain.tags[name]

        copy(layout, target)

        universe.assert_at(target, "1")


def test_an_unchanged_image_sends_nothing(
    registries: tuple[FakeRegistry, FakeRegistry], client: Registry, tmp_path: Path
) -> None:
    _, having = registries
    universe = Universe()
    layout = LayoutRepository.create(tmp_path / "layout")
    universe.push_to(layout, "1")
    target = client.repository(Reference.parse(f"{having.host}/app"))
    copy(layout, target)
    having.seen.clear()

    result = copy(layout, target)

    assert not result.outcome.changed
    assert {seen.method for seen in having.seen} == {"HEAD", "GET"}
    assert {seen.path.split("/")[-2] for seen in having.seen if seen.method == "GET"} == {"referrers"}


def test_blobs_come_from_a_sibling_by_mount_without_a_question_first(
    registries: tuple[FakeRegistry, FakeRegistry], client: Registry
) -> None:
    _, having = registries
    universe = Universe()
    source = client.repository(Reference.parse(f"{having.host}/from"))
    universe.push_to(source, "1")
    having.seen.clear()

    result = copy(source, client.repository(Reference.parse(f"{having.host}/to")), mounts_of=lambda _: ["from"])

    assert len(result.outcome.report.mounted) == len(universe.blobs)
    assert having.requests("HEAD", "/blobs/") == []
    assert having.requests("PUT", "/uploads/") == []


class Lying:
    """A repository that lists what it should not."""

    def __init__(self, place: Any, listed: dict[Any, tuple[Any, ...]]) -> None:
        self._place, self._listed = place, listed
        self.open, self.has, self.resolve, self.tags = place.open, place.has, place.resolve, place.tags

    def predecessors(self, descriptor: Any, artifact_type: str = "") -> Any:
        return (*self._place.predecessors(descriptor), *self._listed.get(descriptor.digest, ()))


def test_referrers_in_a_circle_end(client: Registry, tmp_path: Path) -> None:
    universe = Universe()
    layout = LayoutRepository.create(tmp_path / "layout")
    universe.push_to(layout, "1")
    circle = Lying(
        layout,
        {
            universe.sbom.descriptor.digest: (universe.root,),
            universe.signature.descriptor.digest: (universe.sbom.descriptor,),
        },
    )

    result = copy(circle, LayoutRepository.create(tmp_path / "target"))

    assert {node.descriptor.digest for node in result.outcome.kept} == universe.digests


def test_a_referrer_that_names_another_subject_is_not_believed(tmp_path: Path) -> None:
    universe, other = Universe(), Universe("other")
    layout = LayoutRepository.create(tmp_path / "layout")
    universe.push_to(layout, "1")
    other.push_to(layout, "2")
    lying = Lying(layout, {universe.root.digest: (other.sbom.descriptor,)})

    result = copy(lying, LayoutRepository.create(tmp_path / "target"))

    absent = result.reshaped.closure.absent
    assert [one.descriptor.digest for one in absent] == [other.sbom.descriptor.digest]
    assert "does not name it" in absent[0].why


def test_a_referrer_that_is_listed_and_gone_is_told_and_stops_nothing(client: Registry, tmp_path: Path) -> None:
    with FakeRegistry() as source:
        universe = Universe()
        place = client.repository(Reference.parse(f"{source.host}/app"))
        universe.push_to(place, "1")
        source.fail("GET", f"/manifests/{universe.signature.descriptor.digest}", times=9, status=404)

        result = copy(place, LayoutRepository.create(tmp_path / "target"))

        assert [one.why for one in result.reshaped.closure.absent] == ["referrer is not at the source"]
        assert len(result.outcome.kept) == len(universe.documents) - 1


def test_a_missing_platform_stops_the_copy_and_says_which(client: Registry, tmp_path: Path) -> None:
    universe = Universe()
    with FakeRegistry() as source:
        place = client.repository(Reference.parse(f"{source.host}/app"))
        universe.push_to(place, "1")
        del source.manifests["app", str(universe.arm64.descriptor.digest)]

        with pytest.raises(NotFound, match=str(universe.arm64.descriptor.digest)) as caught:
            copy(place, LayoutRepository.create(tmp_path / "target"))

        assert "--sparse" in caught.value.hint
        options = CopyOptions(Wanted(sparse=True))
        result = copy(place, LayoutRepository.create(tmp_path / "target"), options=options)
        assert result.root.digest == universe.root.digest


def test_a_source_that_gives_other_bytes_moves_no_tag(client: Registry, tmp_path: Path) -> None:
    universe = Universe()
    layer = universe.amd64.layers[0]
    with FakeRegistry() as source, FakeRegistry() as target:
        place = client.repository(Reference.parse(f"{source.host}/app"))
        universe.push_to(place, "1")
        source.blobs["app", str(layer.digest)] = b"x" * layer.size

        with pytest.raises(DigestMismatch):
            copy(place, client.repository(Reference.parse(f"{target.host}/app")))

        assert target.tags == {}


def test_a_cut_stream_goes_on_where_it_was(client: Registry, tmp_path: Path) -> None:
    universe = Universe()
    layer = universe.amd64.layers[0]
    with FakeRegistry() as source:
        place = client.repository(Reference.parse(f"{source.host}/app"))
        universe.push_to(place, "1")
        source.fail("GET", f"/blobs/{layer.digest}", cut_after=1000)

        target = LayoutRepository.create(tmp_path / "target")
        copy(place, target)

        universe.assert_at(target, "1")
        assert [seen.headers.get("range") for seen in source.requests("GET", f"/blobs/{layer.digest}")] == [
            None,
            "bytes=1000-",
        ]


def test_too_many_requests_are_waited_out(client: Registry, tmp_path: Path) -> None:
    universe = Universe()
    layout = LayoutRepository.create(tmp_path / "layout")
    universe.push_to(layout, "1")
    with FakeRegistry() as target:
        target.fail("PUT", "/manifests/", times=3, status=429, headers={"Retry-After": "0"})
        place = client.repository(Reference.parse(f"{target.host}/app"))

        copy(layout, place)

        universe.assert_at(place, "1")


def test_several_writers_of_one_list_of_referrers_lose_nothing(tmp_path: Path) -> None:
    universe = Universe()
    more = [universe.artifact("application/x-more", b"%d" % number, universe.index) for number in range(24)]
    LayoutRepository.create(tmp_path / "layout")

    def write(number: int) -> None:
        # Each with an object of its own, as another process has.
        mine = LayoutRepository.at(tmp_path / "layout")
        for manifest in more[number::4]:
            mine.push_manifest(manifest.descriptor, manifest.raw)

    with Scope() as scope:
        each(write, range(4), scope=scope, jobs=4)

    listed = LayoutRepository.at(tmp_path / "layout").predecessors(universe.root)
    assert {entry.digest for entry in listed} == {manifest.descriptor.digest for manifest in more}


def test_what_is_done_for_each_of_many_takes_no_more_threads_than_it_may() -> None:
    seen: set[int] = set()

    def act(number: int) -> int:
        seen.add(threading.get_ident())
        return number * 2

    with Scope() as scope:
        assert each(act, range(5000), scope=scope, jobs=3) == list(range(0, 10_000, 2))
    assert len(seen) <= 3
