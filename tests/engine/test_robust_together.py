"""Several builds at once on one state directory: each step runs once, and the death of one harms no other."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.engine.aftermath import Running, assert_nothing_left, running, using
from tests.engine.conftest import open_archive

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

COUNTED = "RUN --mount=type=cache,id=count,target=/c echo run >> /c/count; sleep 0.3; date +%N > /when\n"
COUNT = "FROM busybox\nRUN --mount=type=cache,id=count,target=/c cp /c/count /count; : {}\n"


def command(knarr: Knarr, name: str, dockerfile: str, *options: str) -> list[str]:
    """A build with a Dockerfile and a result of its own."""
    file = knarr.work / f"Dockerfile.{name}"
    file.write_text(dockerfile)
    (knarr.work / "context").mkdir(exist_ok=True)
    output = f"type=oci,dest={knarr.work}/{name}.tar"
    return ["build", "--progress=plain", "-f", str(file), "-o", output, *options, str(knarr.work / "context")]


def together(knarr: Knarr, dockerfiles: dict[str, str], *options: str) -> dict[str, Any]:
    """Build them all at once; the images by name."""
    with ExitStack() as stack:
        builds: dict[str, Running] = {
            name: stack.enter_context(running(knarr, *command(knarr, name, text, *options)))
            for name, text in dockerfiles.items()
        }
        for build in builds.values():
            assert build.wait() == 0, build.output()
    return {name: open_archive(knarr.work / f"{name}.tar")[0] for name in dockerfiles}


def runs(knarr: Knarr) -> int:
    """How often COUNTED has run. The step is new each time: --no-cache would empty the cache mount."""
    return len(knarr.build(COUNT.format(time.time_ns())).contents["count"].splitlines())


def test_the_same_build_twice_runs_its_steps_once(knarr: Knarr) -> None:
    dockerfile = f"FROM busybox\n{COUNTED}RUN cat /when > /copy\n"
    images = together(knarr, {"a": dockerfile, "b": dockerfile})
    assert images["a"].contents["copy"] == images["b"].contents["copy"]
    assert runs(knarr) == 1
    assert_nothing_left(knarr)


def test_four_builds_share_what_they_have_in_common(knarr: Knarr, context: Path) -> None:
    common = f"FROM busybox\nCOPY f /f\n{COUNTED}"
    images = together(knarr, {name: f"{common}RUN echo {name} > /name\n" for name in "abcd"})
    assert {image.contents["name"] for image in images.values()} == {b"a\n", b"b\n", b"c\n", b"d\n"}
    assert len({image.contents["when"] for image in images.values()}) == 1
    assert runs(knarr) == 1
    assert_nothing_left(knarr)


def test_four_builds_with_nothing_in_common(knarr: Knarr) -> None:
    images = together(knarr, {name: f"FROM busybox\nRUN sleep 0.2; echo {name} > /name\n" for name in "abcd"})
    assert {name: image.contents["name"] for name, image in images.items()} == {
        name: f"{name}\n".encode() for name in "abcd"
    }
    assert_nothing_left(knarr)


def test_a_failed_step_fails_both_builds_that_wait_for_it(knarr: Knarr) -> None:
    dockerfile = "FROM busybox\nRUN echo begun; sleep 0.5; exit 7\n"
    with (
        running(knarr, *command(knarr, "a", dockerfile)) as first,
        running(knarr, *command(knarr, "b", dockerfile)) as second,
    ):
        assert (first.wait(), second.wait()) == (1, 1)
        assert "exit code: 7" in first.output()
        assert "exit code: 7" in second.output()
    assert_nothing_left(knarr)


def test_a_build_goes_on_when_the_one_whose_step_it_waits_for_is_killed(knarr: Knarr) -> None:
    dockerfile = (
        "FROM busybox\n"
        "RUN --mount=type=cache,target=/c if [ -e /c/second ]; then echo x > /x; else"
        " touch /c/second; echo begun; sleep 300; fi\n"
    )
    with running(knarr, *command(knarr, "a", dockerfile)) as first:
        first.wait_for(" begun\n")
        with running(knarr, *command(knarr, "b", dockerfile)) as second:
            second.wait_for("waiting for another build")
            first.end(signal.SIGKILL)
            assert second.wait() == 0, second.output()
    assert open_archive(knarr.work / "b.tar")[0].contents["x"] == b"x\n"
    assert using(knarr.root) == {}  # who takes a step over from the dead also ends what is left of it
    assert_nothing_left(knarr)


def test_a_build_does_not_sweep_what_another_living_one_uses(knarr: Knarr) -> None:
    with running(knarr, *command(knarr, "dead", "FROM busybox\nRUN echo begun; sleep 300\n")) as dead:
        dead.wait_for(" begun\n")
        with running(knarr, *command(knarr, "slow", "FROM busybox\nRUN echo begun; sleep 6; echo x > /x\n")) as slow:
            slow.wait_for(" begun\n")
            dead.end(signal.SIGKILL)
            knarr.build("FROM busybox\nRUN echo quick > /quick\n")
            assert slow.process.poll() is None, "the slow build must still be under way, or this test tests nothing"
            assert slow.wait() == 0, slow.output()
    assert open_archive(knarr.work / "slow.tar")[0].contents["x"] == b"x\n"
    assert_nothing_left(knarr)


def test_pruning_during_a_build_takes_nothing_from_it(knarr: Knarr) -> None:
    dockerfile = "FROM busybox\nRUN echo first > /first\nRUN echo begun; sleep 4; cat /first > /second\n"
    with running(knarr, *command(knarr, "a", dockerfile)) as build:
        build.wait_for(" begun\n")
        knarr.run("prune", "--all", "--force")
        assert build.process.poll() is None
        assert build.wait() == 0, build.output()
    assert open_archive(knarr.work / "a.tar")[0].contents["second"] == b"first\n"
    assert_nothing_left(knarr)
