"""`knarr debug why` after real builds: which input of a step changed, by the name its author knows it by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.publish import busybox, entry, layer, publish
from tests.remote.fakeregistry import FakeRegistry

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py
STAGES = """FROM busybox AS build
ARG VERSION=1
COPY src /src
RUN cat /src/* > /out; echo $VERSION
FROM busybox
ENV MODE=debug
COPY --from=build /out /out
RUN --mount=target=/ctx,source=notes cat /ctx /out >/x
RUN echo last
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "src/sub").mkdir(parents=True)
    for name in ("src/a", "src/b", "src/sub/c", "notes"):
        (root / name).write_text(name)
        (root / name).chmod(0o644)
    return root


@pytest.fixture
def built(knarr: Knarr, context: Path) -> Knarr:
    knarr.run(*knarr.command(STAGES, context=context))
    return knarr


def why(knarr: Knarr, dockerfile: str, *options: str, step: str = "") -> list[str]:
    """Build again, and ask; the lines, those of a reason indented."""
    knarr.run(*knarr.command(dockerfile, *options))
    lines: list[str] = knarr.run("debug", "why", *([step] if step else [])).stdout.splitlines()
    return lines


def test_a_first_build_says_so(built: Knarr) -> None:
    told = built.run("debug", "why", "COPY src").stdout
    assert told == "[build 2/3] COPY src /src\n  this step has not run before\n"


def test_nothing_missed(built: Knarr) -> None:
    assert why(built, STAGES) == ["every step of the last build was in the cache"]
    assert why(built, STAGES, step="RUN cat") == ["[build 3/3] RUN cat /src/* > /out; echo 1", "  it was in the cache"]


def test_files_that_changed_came_went_or_got_another_mode(built: Knarr, context: Path) -> None:
    (context / "src/a").write_text("other")
    (context / "src/b").unlink()
    (context / "src/new").write_text("new")
    (context / "src/sub/c").chmod(0o600)
    assert why(built, STAGES, step="COPY src") == [
        "[build 2/3] COPY src /src",
        "  file src/a: content (build context)",
        "  file src/new: new (build context)",
        "  file src/sub/c: mode 0644 → 0600 (build context)",
        "  file src/b: gone (build context)",
    ]


def test_a_step_far_below_is_led_back_to_the_one_that_began_it(built: Knarr, context: Path) -> None:
    (context / "src/a").write_text("other")
    assert why(built, STAGES, step="echo last") == [
        "[stage-1 4/4] RUN echo last",
        "  the step before gave another result: RUN --mount=target=/ctx,source=notes cat /ctx /out >/x (stage stage-1)",
        "  [build 2/3] COPY src /src ran:",
        "    file src/a: content (build context)",
    ]


def test_what_a_stage_gave_is_told_file_by_file(built: Knarr, context: Path) -> None:
    (context / "src/a").write_text("other")
    assert why(built, STAGES, step="COPY --from")[:2] == [
        "[stage-1 2/4] COPY --from=build /out /out",
        "  file out: content (stage build)",
    ]


def test_a_build_argument(built: Knarr) -> None:
    assert why(built, STAGES, "--build-arg", "VERSION=2") == [
        "[build 3/3] RUN cat /src/* > /out; echo 2",
        "  ENV or ARG VERSION changed: 1 → 2",
    ]


def test_a_variable_and_the_content_of_a_mount(built: Knarr, context: Path) -> None:
    (context / "notes").write_text("other")
    assert why(built, STAGES.replace("debug", "release"), step="RUN --mount") == [
        "[stage-1 3/4] RUN --mount=target=/ctx,source=notes cat /ctx /out >/x",
        "  ENV or ARG MODE changed: debug → release",
        "  file notes: content (build context)",
    ]


def test_an_edited_line_is_compared_with_what_it_was(built: Knarr) -> None:
    assert why(built, STAGES.replace("echo last", "echo last one")) == [
        "[stage-1 4/4] RUN echo last one",
        "  command changed: /bin/sh -c echo last → /bin/sh -c echo last one",
    ]


def test_a_line_put_in_between_is_new_and_renames_no_other(built: Knarr) -> None:
    assert why(built, STAGES.replace("RUN echo last", "RUN echo first\nRUN echo last"), step="last") == [
        "[stage-1 5/5] RUN echo last",
        "  the step before gave another result: RUN echo first (stage stage-1)",
        "  [stage-1 4/5] RUN echo first ran:",
        "    this step has not run before",
    ]


def test_a_step_that_failed_tells_why_it_ran_and_the_next_run_is_compared_with_the_last_good_one(
    built: Knarr, context: Path
) -> None:
    (context / "src/a").write_text("other")
    broken = STAGES.replace("echo $VERSION", "echo $VERSION; false")
    failed = built.run(*built.command(broken, context=context), check=False)
    assert failed.returncode == 1
    assert built.run("debug", "why", "RUN cat").stdout.splitlines() == [
        "[build 3/3] RUN cat /src/* > /out; echo 1; false",
        "  command changed: /bin/sh -c cat /src/* > /out; echo $VERSION → "
        "/bin/sh -c cat /src/* > /out; echo $VERSION; false",
        "  the step before gave another result: COPY src /src (stage build)",
        "  it failed",
        "  [build 2/3] COPY src /src ran:",
        "    file src/a: content (build context)",
    ]
    # The command is the one of the run before the failed one, so it does not count as changed.
    assert why(built, STAGES, step="RUN cat")[1] == "  the step before gave another result: COPY src /src (stage build)"


def test_the_cache_was_switched_off(built: Knarr) -> None:
    told = why(built, STAGES, "--no-cache-filter", "build")
    assert told[::2] == ["[build 2/3] COPY src /src", "[build 3/3] RUN cat /src/* > /out; echo 1"]
    assert {*told[1::2]} == {"  the cache was switched off"}


def test_results_that_were_pruned(built: Knarr) -> None:
    built.run("prune", "--all", "--force")
    assert why(built, STAGES, step="COPY src") == [
        "[build 2/3] COPY src /src",
        "  its result was no longer there: it was pruned or removed",
    ]


def test_each_platform_is_compared_with_itself(knarr: Knarr, context: Path) -> None:
    dockerfile = "FROM busybox\nCOPY notes /\n"
    platforms = ("--platform", "linux/amd64,linux/arm64")
    knarr.run(*knarr.command(dockerfile, *platforms, context=context))
    (context / "notes").write_text("other")
    told = why(knarr, dockerfile, *platforms)
    assert sorted(told[::2]) == ["[linux/amd64 2/2] COPY notes /", "[linux/arm64 2/2] COPY notes /"]
    assert {*told[1::2]} == {"  file notes: content (build context)"}


def test_another_platform(built: Knarr, context: Path) -> None:
    assert why(built, STAGES, "--platform", "linux/arm64", "--target", "build")[:4] == [
        "[build 2/3] COPY src /src",
        "  image busybox:latest (linux/arm64) changed",
        "[build 3/3] RUN cat /src/* > /out; echo 1",
        "  platform changed: linux/amd64 → linux/arm64",
    ]


def test_another_base_image(knarr: Knarr, context: Path, busybox_layout: Path) -> None:
    with FakeRegistry() as far:
        dockerfile = f"FROM {far.host}/app\nRUN true\n"
        publish(far, "app", [busybox(busybox_layout)])
        knarr.run(*knarr.command(dockerfile, context=context))
        publish(far, "app", [busybox(busybox_layout), layer(entry("more", b"more"))])
        assert why(knarr, dockerfile) == ["[2/2] RUN true", f"  image {far.host}/app:latest (linux/amd64) changed"]


def test_a_step_that_is_not_there(built: Knarr) -> None:
    refused = built.run("debug", "why", "RUN mkae", check=False)
    assert refused.returncode == 1
    assert "error: the last build has no step 'RUN mkae'" in refused.stderr
    assert "RUN echo last" in refused.stderr
