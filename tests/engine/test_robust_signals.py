"""Ctrl-C and SIGTERM: the build ends at once, in order, and says so in its exit status."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.aftermath import assert_nothing_left, eventually, running
from tests.remote.fakeregistry import FakeRegistry

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

PROMPTLY_S = 3.0
STUBBORN = "FROM busybox\nRUN trap '' INT TERM HUP; (sleep 300 &) ; echo begun; while true; do sleep 1; done\n"

signals = pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@pytest.fixture
def far() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def stop(build: Any, number: int, status: int) -> str:
    """Send the signal; everything about how the command ends but what it leaves."""
    ended, seconds = build.end(number)
    output: str = build.output()
    assert ended == status, output
    assert seconds < PROMPTLY_S
    assert "Traceback" not in output
    assert "error:" not in output
    return output


@signals
def test_in_a_run_that_ignores_signals(knarr: Knarr, number: int, status: int) -> None:
    with running(knarr, *knarr.command(STUBBORN)) as build:
        build.wait_for(" begun\n")
        output = stop(build, number, status)
    assert "CANCELED" in output
    assert_nothing_left(knarr)


def test_in_a_run_for_another_platform(knarr: Knarr) -> None:
    with running(knarr, *knarr.command(STUBBORN, "--platform=linux/arm64")) as build:
        build.wait_for(" begun\n")
        stop(build, signal.SIGINT, 130)
    assert_nothing_left(knarr)


@signals
@pytest.mark.parametrize(("method", "part"), [("POST", "/blobs/uploads/"), ("PUT", "/blobs/"), ("PUT", "/manifests/")])
def test_while_a_registry_hangs_in_a_push(
    knarr: Knarr, far: FakeRegistry, method: str, part: str, number: int, status: int
) -> None:
    far.fail(method, part, hang_s=60, times=100)
    options = ("-t", f"{far.host}/app:1", "--push")
    with running(knarr, *knarr.command("FROM busybox\nRUN echo x > /x\n", *options)) as build:
        eventually(lambda: far.requests(method, part), "the request that hangs")
        stop(build, number, status)
    assert_nothing_left(knarr)


@signals
@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
def test_while_a_registry_hangs_in_a_pull(knarr: Knarr, far: FakeRegistry, part: str, number: int, status: int) -> None:
    far.fail("GET", part, hang_s=60, times=100)
    far.fail("HEAD", part, hang_s=60, times=100)
    far.add_manifest("app", "1", MANIFEST, "application/vnd.oci.image.manifest.v1+json")
    with running(knarr, *knarr.command(f"FROM {far.host}/app:1\nRUN echo x > /x\n")) as build:
        eventually(lambda: [seen for seen in far.seen if part in seen.path], "the request that hangs")
        stop(build, number, status)
    assert_nothing_left(knarr)


def test_while_it_waits_for_a_step_of_another_build(knarr: Knarr) -> None:
    with running(knarr, *knarr.command(STUBBORN)) as first:
        first.wait_for(" begun\n")
        with running(knarr, *knarr.command(STUBBORN)) as second:
            second.wait_for("[1/2]")
            stop(second, signal.SIGINT, 130)
        assert first.process.poll() is None
        stop(first, signal.SIGINT, 130)
    assert_nothing_left(knarr)


def test_while_nobody_reads_the_result(knarr: Knarr) -> None:
    """Nothing can end a write to a pipe but breaking it off; the next build looks after what that left."""
    command = knarr.command("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\n", "-o", "type=oci,dest=-")
    read, write = os.pipe()
    try:
        with running(knarr, *command, stdout=write) as build:
            os.close(write)
            assert os.read(read, 1)
            stop(build, signal.SIGTERM, 143)
    finally:
        os.close(read)
    knarr.build("FROM busybox\nRUN true\n")
    assert_nothing_left(knarr)


def test_twice_while_nobody_reads_the_result(knarr: Knarr) -> None:
    command = knarr.command("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\n", "-o", "type=oci,dest=-")
    read, write = os.pipe()
    try:
        with running(knarr, *command, stdout=write) as build:
            os.close(write)
            assert os.read(read, 1)
            build.process.send_signal(signal.SIGINT)
            time.sleep(0.2)
            _, seconds = build.end(signal.SIGINT)
            assert seconds < 1
    finally:
        os.close(read)


def test_while_a_large_context_is_hashed(knarr: Knarr, tmp_path: Path) -> None:
    large = tmp_path / "context"
    large.mkdir()
    with (large / "large").open("wb") as file:
        file.truncate(60 << 30)  # half a minute of hashing, no room on the disk
    with running(knarr, *knarr.command("FROM busybox\nCOPY large /\n", context=large)) as build:
        build.wait_for("load build context")
        stop(build, signal.SIGINT, 130)
    assert_nothing_left(knarr)


@pytest.mark.slow
def test_at_any_moment(knarr: Knarr, far: FakeRegistry) -> None:
    text = (
        "FROM busybox\nCOPY . /c/\nRUN head -c 3000000 /dev/urandom > /big; echo {0}\nFROM busybox\nRUN echo {0} > /x\n"
    )
    text += "COPY --from=0 /big /\n"
    options = (f"--output=type=image,name={far.host}/app:1,push=true", "--platform=linux/amd64,linux/arm64")
    (knarr.work / "context").mkdir()
    (knarr.work / "context/file").write_text("content\n")
    began = time.monotonic()
    knarr.run(*knarr.command(text.format("measured"), *options))
    whole_s = time.monotonic() - began
    for part in range(MOMENTS):
        with running(knarr, *knarr.command(text.format(part), *options)) as build:
            time.sleep(FIRST_S + (whole_s - FIRST_S) * part / MOMENTS)
            status, seconds = build.end(signal.SIGINT)
        assert status in (0, 130), build.output()
        assert seconds < PROMPTLY_S, build.output()
        assert "error:" not in build.output()
        assert_nothing_left(knarr)


MOMENTS = 16
FIRST_S = 0.06  # until Python runs our code
MANIFEST = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
    b'"application/vnd.oci.image.config.v1+json","size":2,"digest":'
    b'"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}'
)
