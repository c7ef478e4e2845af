"""Contexts of every kind, by the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import open_archive
from tests.ops.servers import FileServer, Page, Work, file_server, git_server

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def layout(knarr: Knarr, tmp_path: Path) -> Path:
    """An OCI layout with the images `one` and `two`, put together by skopeo."""
    place = tmp_path / "layout"
    for tag in ("one", "two"):
        archive = tmp_path / f"{tag}.tar"
        text = f"FROM busybox\nENV WHO={tag}\nWORKDIR /in/{tag}\nRUN echo {tag} > /which\n"
        knarr.run(*knarr.command(text), "-o", f"type=oci,dest={archive}")
        copy = ["skopeo", "--insecure-policy", "copy", "-q", f"oci-archive:{archive}", f"oci:{place}:{tag}"]
        subprocess.run(copy, check=True)
    shutil.rmtree(knarr.root)
    return place


def digest(layout: Path, tag: str) -> str:
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    found = (e["digest"] for e in entries if e["annotations"]["org.opencontainers.image.ref.name"] == tag)
    return str(next(found))


USE = "FROM app\nRUN cat /which > out && echo $WHO >> out\n"


def test_an_image_of_a_layout_by_tag_and_by_digest(knarr: Knarr, layout: Path) -> None:
    for where in (f"{layout}:two", f"{layout}@{digest(layout, 'two')}", f"{layout}:any@{digest(layout, 'two')}"):
        image = knarr.build(USE, f"--build-context=app=oci-layout://{where}")
        assert image.contents["in/two/out"] == b"two\ntwo\n"
        assert image.config["config"]["WorkingDir"] == "/in/two"


def test_a_layout_serves_copy_and_run_and_is_cached(knarr: Knarr, layout: Path) -> None:
    text = "FROM busybox\nCOPY --from=app /which /copied\nRUN --mount=from=app,target=/app cat /app/which > /read\n"
    option = f"--build-context=app=oci-layout://{layout}:one"
    image = knarr.build(text, option)
    assert (image.contents["copied"], image.contents["read"]) == (b"one\n", b"one\n")
    assert knarr.run(*knarr.command(text, option)).stderr.count("CACHED") == 2


def test_a_layout_that_changes_is_looked_at_again(knarr: Knarr, layout: Path) -> None:
    option = f"--build-context=app=oci-layout://{layout}:one"
    assert knarr.build(USE, option).contents["in/one/out"] == b"one\none\n"
    index = layout / "index.json"
    index.write_text(index.read_text().replace('"one"', '"gone"').replace('"two"', '"one"'))
    assert knarr.build(USE, option).contents["in/two/out"] == b"two\ntwo\n"


def test_the_only_image_of_a_layout_is_meant_whatever_its_tag(knarr: Knarr, bases: Any) -> None:
    image = knarr.build("FROM app\nRUN busybox > /out\n", f"--build-context=app=oci-layout://{bases.layout}:other")
    assert b"BusyBox" in image.contents["out"]


def test_a_layout_for_another_platform(knarr: Knarr, bases: Any) -> None:
    archive = knarr.work / "out.tar"
    option = f"--build-context=app=oci-layout://{bases.layout}"
    command = knarr.command("FROM app\nCOPY <<A /f\nA\n", option, "--platform=linux/amd64,linux/arm64")
    knarr.run(*command, "-o", f"type=oci,dest={archive}")
    assert [image.config["architecture"] for image in open_archive(archive)] == ["amd64", "arm64"]


def test_layouts_that_cannot_be_used(knarr: Knarr, layout: Path, tmp_path: Path) -> None:
    absent = "sha256:" + "0" * 64
    (tmp_path / "empty").mkdir()
    for where, status, message in (
        (f"{layout}:three", 2, f"three is not in the layout {layout}"),
        (f"{tmp_path / 'empty'}:x", 2, "is not an OCI layout: it has no file oci-layout"),
        (f"{tmp_path / 'nowhere'}", 2, "is not an OCI layout"),
        (f"{layout}@{absent}", 1, f"{absent} is not in the OCI layout"),
    ):
        done = knarr.run(*knarr.command(USE, f"--build-context=app=oci-layout://{where}"), check=False)
        assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    for blob in (layout / "blobs/sha256").iterdir():
        if blob.name != digest(layout, "one").removeprefix("sha256:"):
            os.truncate(blob, 10)
    done = knarr.run(*knarr.command(USE, f"--build-context=app=oci-layout://{layout}:one"), check=False)
    assert done.returncode == 1
    assert "error: " in done.stderr


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("by", ["stdin", "file"])
def test_an_archive_as_the_context(knarr: Knarr, tmp_path: Path, suffix: str, by: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/Dockerfile").write_text("FROM scratch\nCOPY f /f\n")
    (tmp_path / "src/other").write_text("FROM scratch\nCOPY f /g\n")
    (tmp_path / "src/f").write_text("f\n")
    archive = tmp_path / f"context.tar{suffix}"
    subprocess.run(["tar", "-caf", archive, "-C", tmp_path / "src", "."], check=True)
    for options, name in (((), "f"), (("-f", "other"), "g")):
        out = tmp_path / "out.tar"
        command = [*knarr.prefix, "build", "-o", f"type=oci,dest={out}", *options]
        if by == "file":
            knarr.run(*command, str(archive))
        else:
            with archive.open("rb") as stdin:
                from_stdin(knarr, [*command, "-"], stdin)
        assert open_archive(out)[0].contents == {name: b"f\n"}


def from_stdin(knarr: Knarr, command: list[str], stdin: Any) -> None:
    import sys

    subprocess.run([sys.executable, "-m", "knarr", *command], env=knarr.env, cwd=knarr.work, stdin=stdin, check=True)


def test_a_file_that_is_no_archive_is_no_context(knarr: Knarr, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    done = knarr.run("build", str(tmp_path / "Dockerfile"), check=False)
    assert done.returncode == 2
    assert f"hint: a Dockerfile is given as --file {tmp_path / 'Dockerfile'}" in done.stderr


def test_a_dockerfile_from_a_url_for_a_context_that_is_here(knarr: Knarr, files: FileServer, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/f").write_text("f\n")
    (tmp_path / "src/hidden").write_text("h\n")
    (tmp_path / "src/.dockerignore").write_text("hidden\n")
    out = tmp_path / "out.tar"
    for text, expected in (("FROM scratch\nCOPY f /f\n", ["f"]), ("FROM scratch\nCOPY . /\n", [".dockerignore", "f"])):
        files.pages["/Dockerfile"] = Page(text.encode(), etag=f'"{len(text)}"')
        command = ("build", "-f", files.url("/Dockerfile"), "-o", f"type=oci,dest={out}", str(tmp_path / "src"))
        knarr.run(*command)
        assert sorted(open_archive(out)[0].contents) == expected
    refused = knarr.run("build", "-f", files.url("/none"), str(tmp_path / "src"), check=False)
    assert refused.returncode == 1
    assert "invalid response status 404" in refused.stderr


def test_a_dockerfile_of_this_machine_for_a_context_that_is_elsewhere(knarr: Knarr, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with git_server(tmp_path / "served") as server:
        work = Work(tmp_path / "work", server, "app")
        commit = work.commit({"a": "a\n"})
        mine = tmp_path / "mine.Dockerfile"
        out = tmp_path / "out.tar"
        for name in ("one", "two"):  # also when the context is pinned, so that nobody needs to be asked
            mine.write_text(f"FROM scratch\nCOPY a /{name}\n")
            knarr.run("build", "-f", str(mine), "-t", "x", "-o", f"type=oci,dest={out}", f"{work.url}#{commit}")
            assert open_archive(out)[0].contents == {name: b"a\n"}


def test_the_host_by_name(knarr: Knarr) -> None:
    image = knarr.build(
        "FROM busybox\nRUN grep host.internal /etc/hosts > /out\n", "--add-host=host.internal:host-gateway"
    )
    assert image.contents["out"] == b"127.0.0.1\thost.internal\n"
