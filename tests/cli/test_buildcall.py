"""`knarr build --check` and `--call` by the command itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from knarr.cli.buildcall import Call, read_call
from knarr.cli.buildoptions import parse_options
from knarr.errors import UsageError

DOUBTFUL = "# app is ours\nFROM scratch AS app\nCMD run\n"


class Command:
    """`knarr build` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, *argv: str, dockerfile: str = DOUBTFUL) -> subprocess.CompletedProcess[str]:
        (self.directory / "Dockerfile").write_text(dockerfile)
        return subprocess.run(
            [sys.executable, "-m", "knarr", "build", *argv, "."],
            cwd=self.directory,
            env={**os.environ, "KNARR_ROOT": str(self.directory / "state")},
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def knarr(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_check_prints_what_it_finds_and_fails(knarr: Command) -> None:
    done = knarr.run("--check")

    assert done.returncode == 1
    assert done.stdout == (
        "Check complete, 1 warning has been found!\n\n"
        "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n"
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
        "Dockerfile:3\n--------------------\n"
        "   1 |     # app is ours\n   2 |     FROM scratch AS app\n   3 | >>> CMD run\n   4 |     \n"
        "--------------------\n"
    )
    assert "load build definition" in done.stderr
    assert "WARN" not in done.stderr  # the answer has them


def test_check_prints_what_buildx_prints(knarr: Command) -> None:
    recorded = Path(__file__).parent / "checked"  # by docker buildx build --check, 0.36, with buildkitd of 73ed682
    done = knarr.run("--check", dockerfile=(recorded / "Dockerfile").read_text())
    assert done.stdout == (recorded / "buildx.txt").read_text()
    assert done.returncode == 1


def test_check_of_a_clean_file_says_so(knarr: Command) -> None:
    done = knarr.run("--check", "--progress=quiet", dockerfile="FROM scratch\n")

    assert (done.returncode, done.stdout, done.stderr) == (0, "Check complete, no warnings found.\n", "")


def test_check_of_a_broken_file_prints_what_it_found_before(knarr: Command) -> None:
    done = knarr.run("--check", dockerfile=DOUBTFUL + "STOPSIGNAL nope\n")

    assert done.returncode == 1
    assert done.stdout.startswith("Check complete, 1 warning has been found!\n")
    assert done.stderr.endswith("error: invalid signal: nope\nhint: a name such as SIGTERM, or a number\n")


def test_check_in_json(knarr: Command) -> None:
    done = knarr.run("--call", "check,format=json", "--progress=quiet")

    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert [warning["ruleName"] for warning in answer["warnings"]] == ["JSONArgsRecommended"]
    assert answer["sources"][0]["filename"] == "Dockerfile"


def test_a_status_may_be_ignored(knarr: Command) -> None:
    assert knarr.run("--call", "lint,ignorestatus=true").returncode == 0


def test_outline_and_targets(knarr: Command) -> None:
    outline, targets = knarr.run("--call=outline"), knarr.run("--call=targets", "--progress=plain")

    assert outline.stdout == "TARGET:      app\nDESCRIPTION: is ours\n\n"
    assert "JSONArgsRecommended" in outline.stderr
    assert targets.stdout == "TARGET        DESCRIPTION\napp (default) is ours\n"
    assert "JSONArgsRecommended" not in targets.stderr
    assert (outline.returncode, targets.returncode) == (0, 0)


def test_nothing_is_built_or_written(knarr: Command) -> None:
    knarr.run("--check", "--iidfile=id", "--output=out")

    assert sorted(path.name for path in knarr.directory.iterdir()) == ["Dockerfile", "state"]


def test_a_build_that_must_not_warn_fails_before_its_first_step(knarr: Command) -> None:
    done = knarr.run("--output=out", dockerfile="# check=error=true\n" + DOUBTFUL)

    assert done.returncode == 1
    assert "WARN: JSONArgsRecommended" in done.stderr
    assert "error: lint violation found for rules: JSONArgsRecommended\n" in done.stderr
    assert not (knarr.directory / "out").exists()


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("check", Call("check")),
        ("lint", Call("check")),
        ("outline,format=json", Call("outline", as_json=True)),
        ("format=json,targets", Call("targets", as_json=True)),
        ("check,ignorestatus=1,format=text", Call("check", ignore_status=True)),
        ("build", None),
        ("format=json", None),
    ],
)
def test_questions_are_read(text: str, asked: Any) -> None:
    assert read_call(text.split(",")) == asked


@pytest.mark.parametrize(
    "text", ["chek", "check,targets", "check,format=xml", "check,colour=red", "check,ignorestatus=perhaps"]
)
def test_what_is_no_question_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--call {text}: not (known|understood)"):
        read_call(text.split(","))


def test_check_is_a_question(tmp_path: Path) -> None:
    assert parse_options(["--check", "."], {}, str(tmp_path)).call == Call("check")
    assert parse_options(["--check=false", "."], {}, str(tmp_path)).call is None
