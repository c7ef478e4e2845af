from __future__ import annotations

import pytest

from knarr.errors import KnarrError, UsageError
from knarr.image.spot import spot
from knarr.sync import plan
from knarr.sync.places import name_of
from knarr.sync.tagfilter import TagFilter
from knarr.sync.task import REPOSITORY, Limit, RepositoryFilter, Task

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("a.example/x:1", "b.example/y", "b.example/y:1"),
        ("a.example/x:1", "b.example/y:2", "b.example/y:2"),
        ("a.example/x", "b.example/y", "b.example/y:latest"),
        (f"a.example/x@{DIGEST}", "b.example/y", f"b.example/y@{DIGEST}"),
        ("a.example/x:1", "oci:/srv/y", "oci:/srv/y:1"),
    ],
)
def test_a_target_without_a_tag_gets_that_of_its_source(source: str, target: str, expected: str) -> None:
    assert name_of(plan.one_image(Task(source, (target,))).targets[0]) == expected


def test_a_repository_is_its_chosen_tags_each_to_every_target() -> None:
    task = Task("a.example/x", ("b.example/x", "c.example/x"), REPOSITORY, (TagFilter(include=("1*",)),))
    copies = plan.copies(plan.one_repository(task), ["1.0", "1.1", "2.0"])
    assert [(name_of(copy.source), *map(name_of, copy.targets)) for copy in copies] == [
        ("a.example/x:1.0", "b.example/x:1.0", "c.example/x:1.0"),
        ("a.example/x:1.1", "b.example/x:1.1", "c.example/x:1.1"),
    ]


def test_a_registry_is_its_chosen_repositories_below_the_target() -> None:
    task = Task("a.example", ("b.example/all",), "registry", repositories=RepositoryFilter(deny=("secret/.*",)))
    found = plan.repositories(task, ["team/app", "secret/app"])
    assert [(one.source.repository, one.targets[0].repository) for one in found] == [
        ("a.example/team/app", "b.example/all/team/app")
    ]


def test_places_that_sync_cannot_use_are_told() -> None:
    with pytest.raises(UsageError, match="must be in a registry or an OCI layout"):
        plan.one_image(Task("a.example/x:1", ("docker-archive:x.tar",), where="x.toml"))


TASK = Task("a.example/x", ("b.example/x",), REPOSITORY, prune=True, prune_limit=Limit(count=2))
TARGET = spot("b.example/x")


def test_what_nothing_wants_is_deleted_and_what_hangs_on_digests_is_not_listed() -> None:
    there = ["1", "2", "old", f"sha256-{'0' * 64}.sig"]
    assert [name_of(one.target) for one in plan.deletions(TASK, TARGET, there, ["1", "2"])] == ["b.example/x:old"]


def test_more_than_the_limit_deletes_nothing() -> None:
    with pytest.raises(KnarrError, match="3 of 4 tags would be deleted; the limit is 2 tags"):
        plan.deletions(TASK, TARGET, ["1", "a", "b", "c"], ["1"])


def test_an_empty_wish_deletes_nothing() -> None:
    with pytest.raises(KnarrError, match="nothing is wanted there"):
        plan.deletions(TASK, TARGET, ["1"], [])


@pytest.mark.parametrize(("deletions", "of", "allowed"), [(1, 4, True), (2, 4, False), (0, 0, True), (25, 100, True)])
def test_a_limit_of_a_quarter(deletions: int, of: int, allowed: bool) -> None:
    assert Limit(percent=25).allows(deletions, of) is allowed
