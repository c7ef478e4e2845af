"""kill -9 of a build at any moment: the next build is right, and removes all that was left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.aftermath import assert_nothing_left, eventually, running, using
from tests.remote.fakeregistry import FakeRegistry

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

LONG_RUN = "FROM busybox\nRUN echo before > /before\nRUN (sleep 300 &) ; echo begun; sleep 301\n"
NEXT = "FROM busybox\nRUN echo before > /before\nRUN echo after > /after\n"


@pytest.fixture
def far() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def kill_when(knarr: Knarr, argv: list[str], text: str) -> None:
    with running(knarr, *argv) as build:
        build.wait_for(text)
        build.end(signal.SIGKILL)


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
@pytest.mark.parametrize("program", ["crun", "runc"])
def test_a_build_killed_in_a_run(knarr: Knarr, platform: str, program: str) -> None:
    knarr.env["KNARR_OCI_RUNTIME"] = program
    with running(knarr, *knarr.command(LONG_RUN, f"--platform={platform}")) as build:
        build.wait_for(" begun\n")
        build.end(signal.SIGKILL)
    assert any("sleep 301" in command for command in using(knarr.root).values())  # the container lives on
    assert "WRONG    builds" in knarr.run("doctor", "--store", check=False).stdout

    image = knarr.build(NEXT, f"--platform={platform}")

    assert image.contents["before"] == b"before\n"
    assert image.contents["after"] == b"after\n"
    assert_nothing_left(knarr)


def test_the_step_that_was_killed_runs_again_from_its_beginning(knarr: Knarr) -> None:
    step = "FROM busybox\nRUN --mount=type=bind,target=/ctx test ! -e /half; touch /half; echo begun; sh /ctx/script\n"
    script = knarr.work / "context/script"
    script.parent.mkdir()
    script.write_text("sleep 300\n")
    kill_when(knarr, knarr.command(step), " begun\n")
    script.write_text("true\n")
    image = knarr.build(step)
    assert "half" in image.files
    assert_nothing_left(knarr)


def test_a_build_killed_while_it_pushes(knarr: Knarr, far: FakeRegistry) -> None:
    far.fail("PUT", "/blobs/uploads/", hang_s=30, times=100)
    command = knarr.command(NEXT, "-t", f"{far.host}/app:1", "--push")
    with running(knarr, *command) as build:
        eventually(lambda: far.requests("PUT", "/blobs/uploads/"), "an upload")
        build.end(signal.SIGKILL)
    assert far.tags == {}

    far.forgive()
    knarr.run(*command)

    assert far.tags.keys() == {("app", "1")}
    assert_nothing_left(knarr)
    for digest in blobs_of(far, "app"):
        assert ("app", digest) in far.blobs


def test_a_build_killed_while_it_pulls(knarr: Knarr, far: FakeRegistry, busybox_layout: Path) -> None:
    serve(far, busybox_layout)
    far.fail("GET", "/blobs/", skip=1, cut_after=100_000, stall_s=30, times=100)  # the config comes, layers hang
    dockerfile = f"FROM {far.host}/busybox\nRUN echo x > /x\n"
    with running(knarr, *knarr.command(dockerfile)) as build:
        eventually(lambda: _pulls(far) and os.listdir(knarr.root / "content/ingest"), "half a blob")
        build.end(signal.SIGKILL)

    far.forgive()
    image = knarr.build(dockerfile)

    assert image.contents["x"] == b"x\n"
    assert_nothing_left(knarr)


def test_a_build_killed_while_it_exports(knarr: Knarr) -> None:
    command = knarr.command("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\n", "-o", "type=oci,dest=-")
    read, write = os.pipe()
    try:
        with running(knarr, *command, stdout=write) as build:
            os.close(write)
            assert os.read(read, 1)  # and no more: the pipe is full soon
            build.end(signal.SIGKILL)
    finally:
        os.close(read)
    image = knarr.build("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\n")
    assert len(image.contents["big"]) == 3_000_000
    assert_nothing_left(knarr)


@pytest.mark.slow
def test_a_build_killed_at_any_moment(knarr: Knarr, context: Path) -> None:
    text = "FROM busybox\nCOPY . /c/\nRUN head -c 20000000 /dev/urandom > /big; sha256sum /big > /sum; echo {}\n"
    began = time.monotonic()
    knarr.build(text.format("measured"), context=context)
    whole_s = time.monotonic() - began
    for part in range(1, 13):
        command = knarr.command(text.format(part), "-o", f"type=oci,dest={knarr.work}/killed.tar", context=context)
        with running(knarr, *command) as build:
            time.sleep(whole_s * part / 12)
            build.end(signal.SIGKILL)
        image = knarr.build(text.format(part), context=context)
        (knarr.work / "big").write_bytes(image.contents["big"])
        summed = subprocess.run(["sha256sum", knarr.work / "big"], capture_output=True, check=True).stdout
        assert image.contents["sum"].split()[0] == summed.split()[0]
        assert_nothing_left(knarr)


def _pulls(far: FakeRegistry) -> bool:
    return len(far.requests("GET", "/blobs/")) > 1


def blobs_of(far: FakeRegistry, repository: str) -> set[str]:
    import json

    found: set[str] = set()
    for (where, _), (_, raw) in far.manifests.items():
        document = json.loads(raw)
        if where == repository and "layers" in document:
            found |= {item["digest"] for item in (document["config"], *document["layers"])}
    return found


def serve(far: FakeRegistry, layout: Path) -> None:
    """Put the image of an OCI layout into the registry as busybox:latest."""
    command = ["skopeo", "--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false"]
    subprocess.run([*command, f"oci:{layout}:latest", f"docker://{far.host}/busybox:latest"], check=True)
    far.seen.clear()
