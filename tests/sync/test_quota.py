from __future__ import annotations

from typing import NamedTuple

from knarr.scope import Scope
from knarr.sync.quota import Quotas
from knarr.sync.task import Task


class Left(NamedTuple):
    remaining: int


def test_a_task_waits_until_enough_is_left() -> None:
    left = {"registry-1.docker.io": Left(5)}
    said: list[str] = []
    quotas = Quotas(lambda: left, Scope(), tell=said.append)
    task = Task("a", ("b",), quota_min=100, quota_wait_s=0.01)

    quotas.wait("docker.io", task, lambda: left.update({"registry-1.docker.io": Left(200)}))

    assert said == ["docker.io: 5 pulls left, fewer than 100: waiting 0 s"]


TASK = Task("a", ("b",), quota_min=100)


def never() -> None:
    raise AssertionError("there was nothing to ask for")


def test_a_registry_that_says_nothing_is_not_waited_for() -> None:
    Quotas(lambda: {"a.example": Left(-1)}, Scope()).wait("a.example", TASK, never)
    Quotas(dict, Scope()).wait("a.example", TASK, never)
