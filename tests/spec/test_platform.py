"""What a user may write as a platform, and how it is shown."""

from __future__ import annotations

import pytest

from knarr.errors import UsageError
from knarr.spec.platform import Platform, host_platform


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("windows(10.0.20348.1006)/amd64", Platform("windows", "amd64", os_version="10.0.20348.1006")),
        ("Windows(1.2.3)/bar", Platform("windows", "bar", os_version="1.2.3")),
        ("windows(10.0.1+win32k)/amd64", Platform("windows", "amd64", "", "10.0.1", ("win32k",))),
        ("linux(+erofs+zstd)/arm64", Platform("linux", "arm64", "", "", ("erofs", "zstd"))),
        ("windows(a%2Bb)/amd64", Platform("windows", "amd64", os_version="a+b")),
        ("linux/arm/v6", Platform("linux", "arm", "v6")),
    ],
)
def test_a_platform_is_read_with_the_version_of_its_system_and_shown_again(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform
    assert Platform.parse(platform.in_full) == platform
    assert platform.in_full == text.lower().replace("%2b", "%2B")


def test_a_system_by_itself_may_say_its_version() -> None:
    assert Platform.parse("windows(1.2)") == Platform("windows", host_platform().architecture, os_version="1.2")


@pytest.mark.parametrize(
    "text", ["", "linux//v7", "linux/", "windows(1/amd64", "windows()x/amd64", "a/b/c/d", "li nux/a"]
)
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Platform.parse(text)


def test_a_part_that_is_none_is_told_in_the_words_of_containerd() -> None:
    with pytest.raises(UsageError, match=r'"" is an invalid component of "linux/": platform specifier .*: invalid'):
        Platform.parse("linux/")
