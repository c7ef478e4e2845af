"""Which findings are heard, where they go, and what they cost."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from knarr.errors import KnarrError, UsageError
from knarr.frontend.dockerfile.compile import compile
from knarr.frontend.dockerfile.lint import CheckOptions, read_options
from knarr.frontend.dockerfile.lintrules import RULES, page
from knarr.frontend.request import FrontendRequest, Warning
from knarr.spec.platform import Platform

DOUBTFUL = b"FROM busybox AS Upper\nCMD x\n"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", CheckOptions()),
        (" ", CheckOptions()),
        ("skip=A,B", CheckOptions(frozenset("AB"))),
        ("skip= A , B ;error=T", CheckOptions(frozenset("AB"), is_error=True)),
        ("experimental=A;skip=all", CheckOptions(frozenset(["all"]), frozenset("A"))),
        ("error=false", CheckOptions()),
        ("error=true;error=0", CheckOptions()),
    ],
)
def test_options_are_read(text: str, options: CheckOptions) -> None:
    assert read_options(text) == options


@pytest.mark.parametrize("text", ["skip", "skop=A", "error=yes", "skip=A;", "a;b", "skip=A;error=true;skip=B;skip=C"])
def test_options_that_mean_nothing_are_refused(text: str) -> None:
    if text.count(";") == 3:  # what is behind the third is a part of it, as in BuildKit
        assert "B;skip=C" in read_options(text).skip
        return
    with pytest.raises(UsageError, match="failed to parse check options"):
        read_options(text)


def test_several_platforms_warn_once(dict_bridge: Any) -> None:
    platforms = (Platform("linux", "amd64"), Platform("linux", "arm64"))

    result = compile(FrontendRequest(DOUBTFUL, platforms=platforms), dict_bridge())

    assert [warning.rule for warning in result.warnings] == ["StageNameCasing", "JSONArgsRecommended"]


def test_findings_that_are_errors_fail_the_build_and_are_told(dict_bridge: Any) -> None:
    warnings: list[Warning] = []

    with pytest.raises(KnarrError, match="lint violation found for rules: StageNameCasing, JSONArgsRecommended"):
        compile(FrontendRequest(b"# check=error=true\n" + DOUBTFUL), dict_bridge(), warnings=warnings)
    assert len(warnings) == 2


def test_a_build_that_fails_tells_what_was_found_before(dict_bridge: Any) -> None:
    warnings: list[Warning] = []

    with pytest.raises(KnarrError):
        compile(FrontendRequest(DOUBTFUL + b"STOPSIGNAL nope\n"), dict_bridge(), warnings=warnings)
    assert [warning.rule for warning in warnings] == ["StageNameCasing", "JSONArgsRecommended"]


def test_a_build_does_not_look_at_what_it_does_not_need(dict_bridge: Any) -> None:
    text = b"FROM other AS unused\nENV a b\nFROM busybox\n"
    bridge = dict_bridge()

    assert compile(FrontendRequest(text), bridge).warnings == ()
    assert [name for name, _ in bridge.asked] == ["docker.io/library/busybox:latest"]
    assert compile(FrontendRequest(text), bridge, every_stage=True).warnings[0].rule == "LegacyKeyValueFormat"


def test_pages_are_where_docker_has_them() -> None:
    assert page("JSONArgsRecommended") == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    assert page("FromPlatformFlagConstDisallowed").endswith("/from-platform-flag-const-disallowed/")
    assert page("InvalidBaseImagePlatform") == ""
    assert len(RULES) == 22


def test_the_sentences_are_loaded_when_there_is_something_to_say() -> None:
    code = "import sys, knarr.frontend.dockerfile.compile; print('knarr.frontend.dockerfile.lintrules' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
