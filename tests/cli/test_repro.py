"""`knarr repro`: images built again from what their provenance says, and what differs."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from knarr.cli.reprofiles import differences, files
from knarr.cli.reproplan import plan
from knarr.content.memory import MemoryStore
from knarr.errors import ContentError, UsageError
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_manifest
from tests.engine.conftest import Knarr

DOCKERFILE = """
FROM busybox AS base
ARG WORD
RUN echo $WORD > /word
FROM base
LABEL a=b
COPY f /f
"""


@pytest.fixture
def knarr(bases: Any, tmp_path: Path) -> Knarr:
    return Knarr(tmp_path / "state", bases.hosts_dir, tmp_path)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    (place / "Dockerfile").write_text(DOCKERFILE)
    (place / "f").write_text("f\n")
    return place


def repro(knarr: Knarr, *argv: str) -> subprocess.CompletedProcess[str]:
    return knarr.run("repro", *argv, check=False)


@pytest.mark.root
@pytest.mark.system
def test_two_platforms_come_out_the_same(knarr: Knarr, context: Path, bases: Any) -> None:
    name = f"{bases.address}/repro/same:1"
    options = ("--provenance=mode=max", "--build-arg", "WORD=w", "--platform=linux/amd64,linux/arm64")
    knarr.run("build", "-q", *options, "-t", name, "--push", str(context))
    (context / "Dockerfile").write_text("FROM scratch\n")  # the one that is told counts
    fresh = Knarr(knarr.work / "other", bases.hosts_dir, knarr.work)

    done = repro(fresh, "--format=json", name, str(context))

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"] is True
    assert set(found["platforms"]) == {"linux/amd64", "linux/arm64"}


@pytest.mark.root
@pytest.mark.system
def test_an_epoch_makes_it_the_same_bit_for_bit(knarr: Knarr, context: Path, bases: Any) -> None:
    name = f"{bases.address}/repro/epoch:1"
    (context / "Dockerfile").write_text("FROM busybox\nCOPY f /f\n")
    options = ("--provenance=mode=max", "--build-arg", "SOURCE_DATE_EPOCH=1700000000")
    knarr.run("build", "-q", *options, "-t", name, "--push", str(context))
    fresh = Knarr(knarr.work / "other", bases.hosts_dir, knarr.work)

    done = repro(fresh, name, str(context))

    assert done.returncode == 0, done.stderr
    assert "the same, bit for bit" in done.stdout


@pytest.mark.root
@pytest.mark.system
def test_what_differs_is_told_file_by_file(knarr: Knarr, context: Path, bases: Any) -> None:
    name = f"{bases.address}/repro/differs:1"
    knarr.run("build", "-q", "--build-arg", "WORD=w", "-t", name, "--push", str(context))  # mode=min: no arguments
    (context / "f").write_text("other\n")
    (context / "f").chmod(0o755)

    done = repro(knarr, name, str(context))

    assert done.returncode == 1, done.stderr
    assert "note: build arguments and labels are not told" in done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[1:]]
    assert {line[-1]: line[0] for line in lines} == {"/f": "content", "/word": "content"}
    assert "mode (644 and 755)" in done.stdout


@pytest.mark.root
@pytest.mark.system
def test_what_cannot_be_done_is_said(knarr: Knarr, context: Path, bases: Any) -> None:
    name = f"{bases.address}/repro/none:1"
    knarr.run("build", "-q", "--provenance=false", "-t", name, "--push", str(context))
    assert "has no provenance for linux/amd64" in repro(knarr, name, str(context)).stderr
    knarr.run("build", "-q", "-t", name, "--push", str(context))
    done = repro(knarr, name)
    assert done.returncode == 2
    assert "the image was built from a directory" in done.stderr


def predicate(request: dict[str, Any], **source: Any) -> dict[str, Any]:
    return {
        "buildDefinition": {
            "externalParameters": {"configSource": source, "request": {"frontend": "dockerfile.v0", **request}},
            "resolvedDependencies": [
                {"uri": "pkg:docker/a.test/b@1?platform=linux%2Famd64", "digest": {"sha256": "0" * 64}},
                {"uri": "https://h.test/f", "digest": {"sha256": "1" * 64}},
            ],
        },
        "runDetails": {"metadata": {"buildkit_completeness": {"request": True}}},
    }


def test_a_remote_context_is_pinned_and_bases_are_too() -> None:
    args = {"build-arg:A": "1", "label:l": "v", "target": "t", "add-hosts": "x=1.2.3.4,y=::1", "hostname": "h"}
    made = plan(predicate({"args": args}, uri="https://g.test/r.git#main:sub", digest={"sha1": "a" * 40}, path="D"))

    assert made.context == f"https://g.test/r.git#{'a' * 40}:sub"
    assert (made.filename, made.needs_context) == ("D", False)
    assert made.words == (
        *("--add-host", "x=1.2.3.4", "--add-host", "y=::1", "--build-arg", "A=1"),
        *("--label", "l=v", "--target", "t"),
        *("--build-context", f"a.test/b:1=docker-image://a.test/b:1@sha256:{'0' * 64}"),
    )
    assert made.notes == ("the option hostname=h is left out",)


def test_what_was_lent_is_asked_for() -> None:
    request = {"args": {"context:x": "local:x"}, "secrets": [{"id": "s"}, {"id": "o", "optional": True}]}

    assert plan(predicate(request)).notes == (
        "the context x was lent: give --build-context x=…",
        "the build was lent something: give --secret id=s",
    )


@pytest.mark.parametrize("nonsense", [{}, {"buildDefinition": 1}, {"invocation": {"parameters": []}}])
def test_a_predicate_of_another_kind_is_refused(nonsense: dict[str, Any]) -> None:
    with pytest.raises(ContentError, match="the provenance cannot be read"):
        plan(nonsense)


def test_a_graph_is_no_dockerfile() -> None:
    with pytest.raises(UsageError, match="the image was made by a graph"):
        plan(predicate({"frontend": ""}))


def test_files_are_as_the_layers_leave_them() -> None:
    store = MemoryStore()

    def layer(*members: tuple[str, bytes]) -> Descriptor:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in members:
                info = tarfile.TarInfo(name.rstrip("/"))
                info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return store.put("application/vnd.oci.image.layer.v1.tar", buffer.getvalue())

    config = Descriptor("application/vnd.oci.image.config.v1+json", Digest.of(b"{}"), 2)
    first = encode_manifest(
        config,
        [
            layer(("d/", b""), ("d/a", b"a"), ("d/b", b"b"), ("e/", b""), ("e/x", b"x"), ("f", b"f")),
            layer(("d/.wh.a", b""), ("e/.wh..wh..opq", b""), ("e/y", b"y"), ("f/", b""), ("f/g", b"g")),
        ],
    )
    second = encode_manifest(config, [layer(("d/", b""), ("d/b", b"B"), ("e/", b""), ("e/y", b"y"), ("z", b""))])

    one, other = files(store, first), files(store, second)

    assert set(one) == {"d", "d/b", "e", "e/y", "f", "f/g"}
    assert [(diff.path, diff.what) for diff in differences(one, other, times=True)] == [
        ("d/b", "content (1 and 1 bytes)"),
        ("f", "missing"),
        ("f/g", "missing"),
        ("z", "new"),
    ]
