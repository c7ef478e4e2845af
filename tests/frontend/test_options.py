"""Options as text, and the requests that they are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.frontend.options import cache_imports, from_options, to_options
from knarr.frontend.request import FrontendRequest
from knarr.llb.ops import LinuxResources, UlimitOpt
from knarr.record import replace
from knarr.spec.platform import Platform

FULL = FrontendRequest(
    b"FROM a",
    "Dockerfile.x",
    target="app",
    platforms=(Platform("linux", "amd64"), Platform("linux", "arm", "v7")),
    build_args={"A": "1", "B": "x=y, z"},
    labels={"l": "v"},
    contexts={"context": "https://example.com/a.git", "base": "docker-image://busybox"},
    no_cache_filter=("one", "two"),
    resolve_mode="pull",
    extra_hosts=(("a", "10.0.0.1"), ("b", "::1")),
    network="none",
    shm_size_bytes=1 << 20,
    ulimits=(UlimitOpt("nofile", 1024, 2048),),
    cgroup_parent="/x",
    resources=LinuxResources(64 << 20, -1, 512, 100_000, 50_000, "0-1", "0", 100),
    hostname="h",
)


def test_a_request_survives_the_way_through_options() -> None:
    assert from_options(to_options(FULL), FULL.dockerfile) == FULL


def test_no_cache_for_all_stages_is_an_option_without_a_value() -> None:
    request = replace(FULL, no_cache=True, no_cache_filter=())
    assert to_options(request)["no-cache"] == ""
    assert from_options(to_options(request), FULL.dockerfile).no_cache


def test_the_epoch_is_a_build_argument() -> None:
    assert to_options(FrontendRequest(b"", source_date_epoch=7))["build-arg:SOURCE_DATE_EPOCH"] == "7"


def test_a_frontend_is_told_the_name_of_the_file_and_not_its_directory() -> None:
    assert to_options(FrontendRequest(b"", "/home/me/app/Dockerfile.dev"))["filename"] == "Dockerfile.dev"


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: "\n" not in name), st.text()))
@settings(deadline=None, max_examples=50)
def test_build_arguments_come_through_whatever_they_are(args: dict[str, str]) -> None:
    assert from_options(to_options(FrontendRequest(b"", build_args=args)), b"").build_args == args


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"platform": "linux/amd64/v1/x"}, "is not a platform"),
        ({"image-resolve-mode": "sometimes"}, "image-resolve-mode=sometimes: not known"),
        ({"force-network-mode": "wide"}, "force-network-mode=wide: not known"),
        ({"add-hosts": "a"}, "'a' is not NAME=ADDRESS"),
        ({"shm-size": "big"}, "'big' is not a whole number"),
        ({"ulimit": "nofile=x"}, "'x' is not a whole number"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_options(options, b"")


def test_shared_caches_are_named_in_two_ways_and_read_once() -> None:
    listed = '[{"Type":"registry","Attrs":{"ref":"a"}},{"type":"local","attrs":{"src":"d"}}]'
    found = cache_imports({"cache-from": "a,b", "cache-imports": listed})
    assert found == [("registry", {"ref": "a"}), ("registry", {"ref": "b"}), ("local", {"src": "d"})]


@pytest.mark.parametrize("text", ["{", "7", '["x"]', '[{"Type":"registry","Attrs":"ref"}]', "[" * 100_000])
def test_a_list_of_caches_that_is_none_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="cache-imports"):
        cache_imports({"cache-imports": text})
