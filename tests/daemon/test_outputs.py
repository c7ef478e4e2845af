"""What clients ask to have made of their results, and what they are told."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest

from knarr.daemon import outputs
from knarr.frontend.gateway import ONLY, Answer, Ref
from knarr.llb.ops import Edge, Graph
from knarr.pb import control_pb2 as pb
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

from .conftest import Builder, Dockerfile

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
_TREE = Ref(Graph({}, Edge(Digest.parse("sha256:" + "0" * 64), 0)))


def request(kind: str = "image", attrs: dict[str, str] | None = None, **asked: str) -> pb.SolveRequest:
    exporters = [pb.Exporter(Type=kind, Attrs=attrs or {})]
    return pb.SolveRequest(Exporters=exporters, FrontendAttrs=asked)


def test_what_is_no_option_of_an_output_is_said_of_the_result() -> None:
    asked = request("oci", {"containerimage.config": "{}", "annotation.a": "b", "compression": "zstd"})
    (export,), answer = outputs.wanted(asked, Answer({ONLY: _TREE}))
    assert export.attrs == {"annotation.a": "b", "compression": "zstd"}
    assert answer.metadata == {"containerimage.config": b"{}"}


def test_the_frontend_names_an_image_that_its_caller_leaves_open() -> None:
    answer = Answer({ONLY: _TREE}, {"image.name": b"app:1"})
    (export,), _ = outputs.wanted(request("docker", {"name": "*"}), answer)
    assert export.attrs["name"] == "app:1"
    (export,), _ = outputs.wanted(request("docker", {"name": "mine:1"}), answer)
    assert export.attrs["name"] == "mine:1"


def test_annotations_of_the_frontend_are_the_image_s_where_its_caller_has_no_other() -> None:
    said = {"annotation-index.a": b"theirs", "annotation.b": b"theirs", "annotations": b"no"}
    asked = request("oci", {"annotation.b": "mine"})
    (export,), _ = outputs.wanted(asked, Answer({ONLY: _TREE}, said))
    assert export.attrs == {"annotation-index.a": "theirs", "annotation.b": "mine"}
    (export,), _ = outputs.wanted(request("local"), Answer({ONLY: _TREE}, said))
    assert export.attrs == {}


def test_what_goes_to_a_registry_keeps_no_name_here_unless_it_is_wanted() -> None:
    (export,), _ = outputs.wanted(request("image", {"name": "a", "push": "true"}), Answer({}))
    assert export.attrs["store"] == "false"
    (export,), _ = outputs.wanted(request("image", {"name": "a", "push": "true", "store": "true"}), Answer({}))
    assert export.attrs["store"] == "true"


def test_only_what_a_frontend_says_for_the_client_is_told() -> None:
    answer = Answer({}, {"frontend.said": b"1", "frontends.said": b"2", "other": b"3"})
    assert outputs.response({"a": "b", "c": {"d": 1}}, answer) == {"frontend.said": "1", "a": "b", "c": "eyJkIjogMX0="}


@pytest.mark.parametrize(
    ("asked", "found", "message"),
    [
        ({"platform": "linux/amd64,linux/arm64"}, (AMD64,), "Multiple platforms requested but result is not multi"),
        ({"platform": "linux/arm64"}, (AMD64,), '"linux/arm64" does not match result platform "linux/amd64"'),
        ({"platform": "linux/amd64"}, (AMD64, ARM64), "linux/amd64 do not match result platforms linux/amd64,linux/ar"),
        ({"platform": "linux/amd64,linux/amd64"}, (AMD64,), "Duplicate platform"),
        ({"platform": "linux/"}, (AMD64,), "Invalid platform"),
        ({"platform": "linux/amd64,linux/arm64"}, (ARM64, AMD64), None),
        ({"platform": "windows/amd64"}, (Platform("windows", "amd64", os_version="1"),), None),
    ],
)
def test_a_result_for_other_platforms_than_asked_is_doubtful(
    asked: dict[str, str], found: tuple[Platform, ...], message: str | None
) -> None:
    refs = {ONLY: _TREE} if len(found) == 1 else {str(platform): _TREE for platform in found}
    doubt = outputs.mismatch(request(**asked), Answer(refs), found)
    assert (doubt is None) if message is None else (doubt is not None and message in doubt.message)


@pytest.mark.root
@pytest.mark.system
def test_a_config_of_the_clients_own_is_the_images(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM scratch\nCOPY hello /\n")
    config = {"architecture": "amd64", "os": "linux", "config": {"Labels": {"a": "b"}}}
    attrs = {"containerimage.config": json.dumps(config)}
    builder.build(Exporters=[pb.Exporter(Type="oci", Attrs=attrs)])
    with tarfile.open(fileobj=io.BytesIO(builder.client.files["0"])) as tar:
        blobs = {name: _json(tar, name) for name in tar.getnames() if name.startswith("blobs/sha256/")}
    assert [blob["config"] for blob in blobs.values() if blob and "rootfs" in blob] == [{"Labels": {"a": "b"}}]


def _json(tar: tarfile.TarFile, name: str) -> Any:
    found = tar.extractfile(name)
    try:
        return json.loads(found.read()) if found is not None else None
    except ValueError:
        return None


@pytest.mark.root
@pytest.mark.system
def test_the_history_knows_every_image_that_a_build_made(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM scratch\nCOPY hello /\n")
    asked = builder.request(
        Exporters=[
            pb.Exporter(Type="oci"),
            pb.Exporter(Type="tar"),
            pb.Exporter(Type="docker", Attrs={"oci-mediatypes": "false"}),
        ]
    )
    builder.control.unary("Solve", asked, timeout_s=60)
    (event,) = builder.control.stream("ListenBuildHistory", pb.BuildHistoryRequest(Ref=asked.Ref, EarlyExit=True))
    kinds = {number: made.media_type for number, made in event.record.Result.Results.items()}
    assert kinds == {
        0: "application/vnd.oci.image.manifest.v1+json",
        2: "application/vnd.docker.distribution.manifest.v2+json",
    }
    assert event.record.Result.ResultDeprecated == event.record.Result.Results[0]


@pytest.mark.root
@pytest.mark.system
def test_a_dockerfile_needs_no_context_that_nobody_lends(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM scratch\nCOPY <<EOF /f\nhi\nEOF\n")
    del builder.client.directories["context"]
    builder.build(Exporters=[pb.Exporter(Type="tar")])
    with tarfile.open(fileobj=io.BytesIO(builder.client.files["0"])) as tar:
        assert "f" in tar.getnames()


@pytest.mark.root
@pytest.mark.system
def test_a_cache_mount_is_empty_for_a_step_that_no_cache_may_answer(builder: Builder, dockerfile: Dockerfile) -> None:
    step = "FROM busybox\nRUN --mount=type=cache,id=count,target=/c --network=none echo >> /c/n && wc -l < /c/n > /n\n"
    counts = []
    for more in ({}, {"no-cache": ""}, {"build-arg:X": "1"}):
        dockerfile(step + ("ARG X\nRUN --mount=type=cache,id=count,target=/c echo $X >> /c/n && wc -l < /c/n > /n\n"))
        builder.build(Exporters=[pb.Exporter(Type="tar")], FrontendAttrs=more)
        with tarfile.open(fileobj=io.BytesIO(builder.client.files["0"])) as tar:
            found = tar.extractfile("n")
            assert found is not None
            counts.append(int(found.read()))
    assert counts == [2, 2, 3]


@pytest.mark.root
@pytest.mark.system
def test_one_cache_mount_at_two_places_of_a_step_is_one_directory(builder: Builder, dockerfile: Dockerfile) -> None:
    both = "--mount=type=cache,id=twice,sharing=locked,target="
    dockerfile(f"FROM busybox\nRUN {both}/one {both}/two touch /one/f && test -f /two/f\n")
    builder.build()
