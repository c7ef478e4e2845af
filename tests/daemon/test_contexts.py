"""Contexts that a client asks for by options: a part of an archive, and what a policy puts in the place of an image."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from knarr.errors import KnarrError
from knarr.pb import sourcepolicy_pb2

from .conftest import Builder, Dockerfile
from .test_control import exporter, member

pytestmark = [pytest.mark.root, pytest.mark.system]


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("_", "/"))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_part_of_an_archive_is_the_context_of_a_dockerfile_elsewhere(
    builder: Builder, dockerfile: Dockerfile
) -> None:
    dockerfile("FROM scratch\nCOPY foo bar\n")
    builder.client.uploads["/up"] = archive(sub_dir_foo=b"contents", foo=b"other")
    asked = {"context": "http://buildkit-session/up", "dockerfilekey": "dockerfile", "contextsubdir": "sub/dir"}
    builder.build(FrontendAttrs=asked, Exporters=[exporter("tar")])
    assert member(builder.client.files["0"], "bar") == b"contents"


def convert(image: str, instead: str) -> sourcepolicy_pb2.Policy:
    selector = sourcepolicy_pb2.Selector(identifier=image)
    updates = sourcepolicy_pb2.Update(identifier=instead)
    rule = sourcepolicy_pb2.Rule(action=sourcepolicy_pb2.CONVERT, selector=selector, updates=updates)
    return sourcepolicy_pb2.Policy(version=1, rules=[rule])


def test_a_policy_makes_a_directory_of_a_context_that_is_an_image(
    builder: Builder, dockerfile: Dockerfile, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/foo").write_text("foo")
    builder.client.directories["mine"] = tmp_path / "mine"
    dockerfile("FROM scratch AS replaced\nFROM scratch\nCOPY --from=replaced /foo /\n")
    policy = convert("docker-image://docker.io/library/busybox:latest", "local://mine")
    asked = {"context:replaced": "docker-image:busybox"}
    builder.build(FrontendAttrs=asked, SourcePolicy=policy, Exporters=[exporter("tar")])
    assert member(builder.client.files["0"], "foo") == b"foo"
    dockerfile("FROM busybox\n")  # as a base it is refused
    with pytest.raises(KnarrError, match="the source policy makes local://mine of image busybox:latest"):
        builder.build(SourcePolicy=policy)


def test_provenance_names_the_frontend_that_is_built_in_however_it_is_asked(
    builder: Builder, dockerfile: Dockerfile
) -> None:
    dockerfile("FROM busybox\nCOPY hello /\n")
    asked = {"source": "dockerfile.v0", "cmdline": "dockerfile.v0", "attest:provenance": "mode=max"}
    builder.build(Frontend="gateway.v0", FrontendAttrs=asked, Exporters=[exporter("oci")])
    with tarfile.open(fileobj=io.BytesIO(builder.client.files["0"])) as tar:
        texts = [tar.extractfile(entry).read() for entry in tar if entry.isfile()]  # type: ignore[union-attr]
    (statement,) = [json.loads(text) for text in texts if b'"predicateType"' in text]
    request = statement["predicate"]["buildDefinition"]["externalParameters"]["request"]
    assert request["frontend"] == "dockerfile.v0"
    assert "source" not in request["args"]
