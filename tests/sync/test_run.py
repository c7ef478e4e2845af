"""Runs against registries in this process: what is asked, copied, deleted and remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import RegistryError
from knarr.image.closure import Wanted
from knarr.image.layoutrepository import LayoutRepository
from knarr.image.wholecopy import CopyOptions
from knarr.record import replace
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings, RetryBudget
from knarr.scope import Scope
from knarr.session.session import Credentials
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference
from knarr.sync.places import Places
from knarr.sync.row import Row
from knarr.sync.run import Runner, RunOptions
from knarr.sync.state import State
from knarr.sync.tagfilter import TagFilter
from knarr.sync.task import IMAGE, REGISTRY, REPOSITORY, Limit, SyncFile, Task
from tests.image.universe import Universe
from tests.remote.fakeregistry import FakeRegistry

SETTINGS = RegistrySettings(hosts_dirs=(), retry=RetryBudget(attempts=2, first_wait_s=0.01), read_timeout_s=5.0)


class World:
    """Two registries and a client, and the memory between runs."""

    def __init__(self, source: FakeRegistry, target: FakeRegistry, client: Registry, directory: Path) -> None:
        self.source, self.target, self.client, self.directory = source, target, client, directory
        self.now = 1_000_000.0

    def at(self, name: str) -> Any:
        return self.client.repository(Reference.parse(name))

    def task(self, **more: Any) -> Task:
        usual = Task(f"{self.source.host}/app", (f"{self.target.host}/mirror/app",), REPOSITORY)
        return replace(usual, **more)

    def run(self, *tasks: Task, only: tuple[Task, ...] = (), **options: Any) -> dict[str, Row]:
        """Rows by target, without the host."""
        with Scope() as scope:
            runner = Runner(
                SyncFile(tasks),
                Places(self.client, scope),
                State(self.directory / "state.json"),
                scope=scope,
                directory=self.directory,
                options=RunOptions(**options),
                clock=lambda: self.now,
            )
            rows = runner.run(only or tasks)
        return {row.target.replace(f"{self.target.host}/", ""): row for row in rows}

    def forget_requests(self) -> None:
        self.source.seen.clear()
        self.target.seen.clear()

    def requests(self) -> set[tuple[str, str]]:
        """Method and kind of everything that was asked."""
        seen = [*self.source.seen, *self.target.seen]
        return {(one.method, one.path.split("/")[-2]) for one in seen}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        source, target = (stack.enter_context(FakeRegistry(referrers=known)) for known in (True, False))
        client = stack.enter_context(Registry(SETTINGS, lambda _: Credentials()))
        yield World(source, target, client, tmp_path)


@pytest.fixture
def apps(world: World) -> dict[str, Universe]:
    """Images 1.0 to 1.2 of the source's repository `app`."""
    found = {}
    for tag in ("1.0", "1.1", "1.2"):
        found[tag] = Universe(tag)
        found[tag].push_to(world.at(f"{world.source.host}/app"), tag)
    return found


def results(rows: dict[str, Row]) -> dict[str, str]:
    return {target: row.result for target, row in rows.items()}


def test_a_repository_is_mirrored_whole(world: World, apps: dict[str, Universe]) -> None:
    rows = world.run(world.task())

    assert results(rows) == {f"mirror/app:{tag}": "copied" for tag in apps}
    for tag, universe in apps.items():
        universe.assert_at(world.at(f"{world.target.host}/mirror/app"), tag)


def test_a_second_run_asks_with_head_only(world: World, apps: dict[str, Universe]) -> None:
    world.run(world.task())
    world.forget_requests()

    rows = world.run(world.task())

    assert set(results(rows).values()) == {"unchanged"}
    assert world.requests() == {("GET", "tags"), ("HEAD", "manifests")}
    assert len(world.source.requests("HEAD")) == len(world.target.requests("HEAD")) == len(apps)


def test_a_signature_that_came_later_is_found_when_the_memory_is_old(world: World, apps: dict[str, Universe]) -> None:
    world.run(world.task())
    late = apps["1.0"].artifact("application/x-late", b"late", apps["1.0"].index)
    place = world.at(f"{world.source.host}/app")
    apps["1.0"].push_to(place, "1.0")

    assert set(results(world.run(world.task())).values()) == {"unchanged"}
    world.now += 3601
    assert results(world.run(world.task()))["mirror/app:1.0"] == "copied"

    mirrored = world.at(f"{world.target.host}/mirror/app")
    listed = {entry.digest for entry in mirrored.predecessors(apps["1.0"].index.descriptor)}
    assert late.descriptor.digest in listed


def test_a_tag_that_moved_on_either_side_is_brought_in_line(world: World, apps: dict[str, Universe]) -> None:
    world.run(world.task())
    fresh = Universe("fresh")
    fresh.push_to(world.at(f"{world.source.host}/app"), "1.0")
    apps["1.2"].push_to(world.at(f"{world.target.host}/mirror/app"), "1.1")

    rows = world.run(world.task())

    assert results(rows) == {"mirror/app:1.0": "copied", "mirror/app:1.1": "copied", "mirror/app:1.2": "unchanged"}
    fresh.assert_at(world.at(f"{world.target.host}/mirror/app"), "1.0")


def test_a_changed_wish_is_another_image(world: World, apps: dict[str, Universe]) -> None:
    world.run(world.task())
    arm64 = (Platform.parse("linux/arm64"),)
    narrow = world.task(options=CopyOptions(Wanted(platforms=arm64), "drop"))

    rows = world.run(narrow)

    assert set(results(rows).values()) == {"copied"}
    assert rows["mirror/app:1.0"].digest == apps["1.0"].arm64.descriptor.digest
    assert set(results(world.run(narrow)).values()) == {"unchanged"}


def test_several_targets_cost_one_read(world: World, apps: dict[str, Universe], tmp_path: Path) -> None:
    two = (f"{world.target.host}/one", f"oci:{tmp_path}/layout", f"{world.target.host}/two")

    rows = world.run(world.task(targets=two))

    assert set(results(rows).values()) == {"copied"}
    assert len(rows) == 9
    apps["1.0"].assert_at(world.at(f"{world.target.host}/two"), "1.0")
    apps["1.1"].assert_at(LayoutRepository.at(tmp_path / "layout"), "1.1")
    layers = [layer for app in apps.values() for layer in app.amd64.layers]
    assert [len(world.source.requests("GET", f"/blobs/{layer.digest}")) for layer in layers] == [1] * len(layers)


def test_a_failure_is_a_row_and_the_others_go_on(world: World, apps: dict[str, Universe]) -> None:
    world.source.fail("HEAD", "/manifests/1.1", times=9, status=500)

    rows = world.run(world.task(), world.task(source=f"{world.source.host}/none", targets=(f"{world.target.host}/x",)))

    assert results(rows) == {
        "mirror/app:1.0": "copied",
        "mirror/app:1.1": "failed",
        "mirror/app:1.2": "copied",
        "x": "failed",
    }
    assert "internal error of the registry" in rows["mirror/app:1.1"].error
    assert "does not exist" in rows["x"].error


def test_fail_fast_raises_the_first_failure(world: World, apps: dict[str, Universe]) -> None:
    world.source.fail("HEAD", "/manifests/", times=99, status=500)
    with pytest.raises(RegistryError):
        world.run(world.task(), fail_fast=True)


def test_what_the_target_keeps_losing_is_a_failure_and_not_remembered(world: World, apps: dict[str, Universe]) -> None:
    lost = apps["1.0"].child_sbom.descriptor.digest
    world.target.fail("PUT", f"/manifests/{lost}", times=2, status=201)

    rows = world.run(world.task())
    assert results(rows)["mirror/app:1.0"] == "failed"
    assert "not there after the copy" in rows["mirror/app:1.0"].error

    assert results(world.run(world.task()))["mirror/app:1.0"] == "copied"


def test_a_dry_run_changes_nothing(world: World, apps: dict[str, Universe]) -> None:
    apps["1.0"].push_to(world.at(f"{world.target.host}/mirror/app"), "old")
    before = dict(world.target.tags)

    rows = world.run(world.task(), dry_run=True, prune=True)

    assert {target: result for target, result in results(rows).items() if result == "would copy"} == {
        f"mirror/app:{tag}": "would copy" for tag in apps
    }
    # One of one: over the limit, which a dry run also tells.
    assert "1 of 1 tags would be deleted" in rows["mirror/app"].error
    assert world.target.tags == before


def prunable(world: World, apps: dict[str, Universe], **more: Any) -> Task:
    """A task that prunes, after its target got one tag too many."""
    task = world.task(prune=True, prune_limit=Limit(count=2), **more)
    world.run(task)
    Universe("old").push_to(world.at(f"{world.target.host}/mirror/app"), "old")
    return task


def test_pruning_takes_what_vanished_and_what_hung_on_it(world: World, apps: dict[str, Universe]) -> None:
    task = prunable(world, apps)

    assert results(world.run(task))["mirror/app:old"] == "deleted"

    left = set(world.at(f"{world.target.host}/mirror/app").tags())
    assert {tag for tag in left if not tag.startswith("sha256-")} == set(apps)
    assert not [tag for tag in left if Universe("old").root.digest.hex in tag]
    for tag, universe in apps.items():
        universe.assert_at(world.at(f"{world.target.host}/mirror/app"), tag)


def test_pruning_keeps_what_another_task_brings_to_the_same_place(world: World, apps: dict[str, Universe]) -> None:
    low = world.task(tags=(TagFilter(include=("1.0",)),), prune=True, prune_limit=Limit(count=9))
    high = world.task(tags=(TagFilter(include=("1.[12]",)),))
    world.run(low, high)

    rows = world.run(low, high, only=(low,))

    assert "deleted" not in results(rows).values()
    assert set(apps) <= set(world.at(f"{world.target.host}/mirror/app").tags())


def test_nothing_is_pruned_where_something_failed(world: World, apps: dict[str, Universe]) -> None:
    task = prunable(world, apps)
    world.source.fail("HEAD", "/manifests/1.1", times=9, status=500)

    assert "deleted" not in results(world.run(task)).values()


def test_nothing_is_pruned_when_the_source_cannot_be_listed(world: World, apps: dict[str, Universe]) -> None:
    task = prunable(world, apps)
    world.source.fail("GET", "/tags/list", times=9, status=503)

    rows = world.run(task)

    assert set(results(rows).values()) == {"failed"}
    assert "old" in set(world.at(f"{world.target.host}/mirror/app").tags())


def test_a_registry_that_deletes_by_digest_only_keeps_a_manifest_with_another_tag(
    world: World, apps: dict[str, Universe]
) -> None:
    task = world.task(prune=True, prune_limit=Limit(count=5))
    world.run(task)
    place = world.at(f"{world.target.host}/mirror/app")
    place.tag(place.resolve("1.0"), "alias")
    Universe("old").push_to(place, "old")
    world.target.fail("DELETE", "/manifests/alias", times=9, status=405)
    world.target.fail("DELETE", "/manifests/old", times=9, status=405)

    rows = world.run(task)

    assert (rows["mirror/app:alias"].result, rows["mirror/app:old"].result) == ("failed", "deleted")
    assert "deletes by digest only" in rows["mirror/app:alias"].error
    apps["1.0"].assert_at(place, "1.0")


def test_what_is_replaced_is_backed_up_first(world: World, apps: dict[str, Universe]) -> None:
    task = world.task(backup="kept-{{.Ref.Tag}}")
    world.run(task)
    fresh = Universe("fresh")
    fresh.push_to(world.at(f"{world.source.host}/app"), "1.0")

    world.run(task)

    place = world.at(f"{world.target.host}/mirror/app")
    apps["1.0"].assert_at(place, "kept-1.0")
    fresh.assert_at(place, "1.0")


def test_a_media_type_that_is_not_wanted_is_skipped(world: World, apps: dict[str, Universe]) -> None:
    rows = world.run(world.task(media_types=("application/vnd.oci.image.manifest.v1+json",)))
    assert set(results(rows).values()) == {"skipped"}


def test_one_image_by_its_name(world: World, apps: dict[str, Universe]) -> None:
    task = world.task(source=f"{world.source.host}/app:1.1", targets=(f"{world.target.host}/one",), kind=IMAGE)
    assert results(world.run(task)) == {"one:1.1": "copied"}
    apps["1.1"].assert_at(world.at(f"{world.target.host}/one"), "1.1")


def test_a_registry_without_a_catalog_is_told(world: World) -> None:
    rows = world.run(world.task(source=world.source.host, kind=REGISTRY, targets=(f"{world.target.host}/all",)))
    assert results(rows) == {"all": "failed"}


def test_a_damaged_memory_is_begun_anew(world: World, apps: dict[str, Universe]) -> None:
    world.run(world.task())
    (world.directory / "state.json").write_text('{"version": 1, "images": [')

    assert set(results(world.run(world.task())).values()) == {"unchanged"}
