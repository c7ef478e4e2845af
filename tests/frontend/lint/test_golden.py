"""Dockerfiles with what a check says of them, and for some what can be asked besides.

A folder of `golden/` has a Dockerfile, perhaps a `request.json` (options of the
request by their names, `images` and `files` of the bridge), and the answers by
question: `check.txt`, `check.json`, `outline.txt` … All were compared with those of
BuildKit's frontend (73ed682) and agree, but for the sentences of build errors.

After a change that is meant: `KNARR_REWRITE_GOLDEN=1 pytest tests/frontend/lint`,
and look at the difference.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from knarr.frontend.dockerfile import subrequests
from knarr.frontend.dockerfile.lintrules import RULES

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize("case", CASES)
def test_a_check_says_what_is_recorded(case: str, asked: Any) -> None:
    answer = subrequests.check(*asked(GOLDEN / case))

    assert_recorded(case, "check", answer)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("outline")])
def test_an_outline_is_as_recorded(case: str, asked: Any) -> None:
    assert_recorded(case, "outline", subrequests.outline(*asked(GOLDEN / case)))


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("outline")])
def test_the_targets_are_as_recorded(case: str, asked: Any) -> None:
    assert_recorded(case, "targets", subrequests.targets(asked(GOLDEN / case)[0]))


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_is_broken_somewhere(rule: str) -> None:
    assert f"\nWARNING: {rule}" in (GOLDEN / folder_of(rule) / "check.txt").read_text()


def folder_of(rule: str) -> str:
    return next(case for case in CASES if case.partition("-")[0] == rule)


def assert_recorded(case: str, question: str, answer: subrequests.Answer) -> None:
    given = {f"{question}.txt": answer.text, f"{question}.json": answer.json + "\n"}
    if os.environ.get("KNARR_REWRITE_GOLDEN"):
        for name, text in given.items():
            (GOLDEN / case / name).write_text(text)
    assert given == {name: (GOLDEN / case / name).read_text() for name in given}
