"""`type=image`, `oci` and `docker`: judged by skopeo, umoci and a real registry."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knarr.builder import Export
from knarr.errors import KnarrError, Unsupported, UsageError
from knarr.image.layout import Layout
from knarr.image.successors import walk
from knarr.progress import VertexDone, VertexStarted
from knarr.record import replace
from knarr.spec.descriptor import Descriptor
from tests.remote.fakeregistry import FakeRegistry

pytestmark = pytest.mark.system


def skopeo(*argv: str) -> dict[str, Any]:
    return dict(json.loads(subprocess.run(["skopeo", *argv], check=True, capture_output=True).stdout))


def inspected(address: str, *options: str) -> dict[str, Any]:
    return skopeo(*options, "inspect", "--tls-verify=false", f"docker://{address}")


def test_an_image_is_kept_under_its_names(world: Any) -> None:
    data = world.export("image", world.result(), name="app:1,registry.example/app")

    for name in ("docker.io/library/app:1", "registry.example/app:latest"):
        assert str(world.store.resolve(name).digest) == data["containerimage.digest"]
    assert data["image.name"] == "docker.io/library/app:1,registry.example/app"
    assert data["containerimage.descriptor"]["platform"] == {"architecture": "amd64", "os": "linux"}
    root = world.store.resolve("docker.io/library/app:1")
    assert data["containerimage.config.digest"] in {blob.digest for blob in walk(world.store, root)}


def test_an_index_has_no_config_digest(world: Any) -> None:
    data = world.export("image", world.result("linux/amd64", "linux/arm64"), name="app")

    assert "containerimage.config.digest" not in data
    assert data["containerimage.descriptor"]["mediaType"] == "application/vnd.oci.image.index.v1+json"


def test_the_same_result_has_the_same_digest(world: Any) -> None:
    first = world.export("image", world.result("linux/amd64", "linux/arm64"), name="app:1")
    second = world.export("image", world.result("linux/amd64", "linux/arm64"), name="app:2")

    assert first["containerimage.digest"] == second["containerimage.digest"]


@pytest.mark.parametrize(
    ("attrs", "names"),
    [
        ({}, ["<none>@DIGEST"]),
        (
            {"name": "app", "name_canonical": "true"},
            ["docker.io/library/app:latest", "docker.io/library/app:latest@DIGEST"],
        ),
        ({"dangling_name_prefix": "built"}, ["built@DIGEST"]),
        ({"name": "app", "dangling_name_prefix": "built"}, ["built@DIGEST", "docker.io/library/app:latest"]),
        (
            {"name": "app", "dangling_name_prefix": "built", "danging_name_empty_only": "true"},
            ["docker.io/library/app:latest"],
        ),
        ({"name": "app", "store": "false"}, []),
    ],
)
def test_names_follow_buildkits_rules(world: Any, attrs: dict[str, str], names: list[str]) -> None:
    data = world.export("image", world.result(), **attrs)

    kept = [name.name.replace(data["containerimage.digest"], "DIGEST") for name in world.store.names.list()]
    assert kept == names


def test_progress_is_told_in_buildkits_words(world: Any, said: Callable[[], set[str]]) -> None:
    data = world.export("image", world.result(), name="app")

    assert {"exporting to image", "exporting layers", "naming to docker.io/library/app:latest"} <= said()
    assert f"exporting manifest {data['containerimage.digest']}" in said()
    assert f"exporting config {data['containerimage.config.digest']}" in said()
    ends = [event for event in world.recorder.events if isinstance(event, (VertexStarted, VertexDone))]
    assert [type(event).__name__ for event in ends] == ["VertexStarted", "VertexDone"]


def test_a_push_reaches_the_registry_for_all_platforms(world: Any, bases: Any, said: Callable[[], set[str]]) -> None:
    name = f"{bases.address}/export/all:1"

    data = world.export("image", world.result("linux/amd64", "linux/arm64"), name=name, push="true")

    shown = inspected(name, "--override-arch", "arm64")
    assert shown["Architecture"] == "arm64"
    assert len(shown["Layers"]) == 2
    assert f"pushing manifest for {name}@{data['containerimage.digest']}" in said()


def test_pushing_again_moves_no_blob(world: Any, bases: Any, said: Callable[[], set[str]]) -> None:
    name = f"{bases.address}/export/again:1"
    world.export("image", world.result(), name=name, push="true")
    assert any(text.startswith("pushing layer sha256:") for text in said())
    world.recorder.events.clear()

    world.export("image", world.result(), name=name, push="true")

    assert not any(text.startswith("pushing layer sha256:") for text in said())
    assert inspected(name)["Architecture"] == "amd64"


def test_a_registry_is_asked_for_the_image_only_when_it_may_have_it(world: Any) -> None:
    with FakeRegistry() as far:
        world.export("image", world.result(), name=f"{far.host}/app:1", push="true")
        assert far.requests("HEAD", "/manifests/") == []
        assert len(far.requests("HEAD", "/blobs/")) == 3  # two layers and the config
        far.seen.clear()

        world.export("image", world.result(), name=f"{far.host}/app:1", push="true")

        assert [seen.method for seen in far.seen if "/blobs/" in seen.path] == []
        assert len(far.requests("HEAD", "/manifests/")) == 1


def test_several_names_in_one_repository_are_tags_of_one_push(world: Any, bases: Any) -> None:
    names = [f"{bases.address}/export/tags:{tag}" for tag in ("1", "2")]

    data = world.export("image", world.result(), name=",".join(names), push="true")

    assert {inspected(name)["Digest"] for name in names} == {data["containerimage.digest"]}


def test_a_layer_is_mounted_from_a_sibling_that_has_it(world: Any, bases: Any, said: Callable[[], set[str]]) -> None:
    world.export("image", world.result(), name=f"{bases.address}/export/first:1", push="true")
    world.recorder.events.clear()

    world.export("image", world.result(), name=f"{bases.address}/export/second:1", push="true")

    assert not any(text.startswith("pushing layer sha256:") for text in said())
    assert len(inspected(f"{bases.address}/export/second:1")["Layers"]) == 2


def test_a_push_by_digest_sets_no_tag(world: Any, bases: Any) -> None:
    repository = f"{bases.address}/export/digest"

    data = world.export("image", world.result(), name=repository, push="true", push_by_digest="true")

    pushed = f"docker://{repository}@{data['containerimage.digest']}"
    assert skopeo("inspect", "--no-tags", "--tls-verify=false", pushed)["Architecture"] == "amd64"
    listed = subprocess.run(
        ["skopeo", "list-tags", "--tls-verify=false", f"docker://{repository}"], capture_output=True, text=True
    )
    assert not json.loads(listed.stdout or '{"Tags": null}')["Tags"]


def test_a_push_without_a_name_is_refused(world: Any) -> None:
    with pytest.raises(UsageError, match="where to push"):
        world.export("image", world.result(), push="true")


def test_a_registry_that_is_not_there_is_told_and_nothing_is_named(world: Any) -> None:
    with pytest.raises(KnarrError, match=r"127\.0\.0\.1:1"):
        world.export("image", world.result(), name="127.0.0.1:1/app:1", push="true")

    assert world.store.names.list() == ()
    (done,) = [event for event in world.recorder.events if isinstance(event, VertexDone)]
    assert done.error


def test_an_oci_archive_is_deterministic_and_accepted(world: Any, tmp_path: Path) -> None:
    world.settings = replace(world.settings, source_date_epoch=1_500_000_000)
    for name in ("1.tar", "2.tar"):
        world.export("oci", world.result("linux/amd64", "linux/arm64"), dest=str(tmp_path / name), name="app:1")

    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    assert skopeo("--override-arch", "arm64", "inspect", f"oci-archive:{tmp_path}/1.tar:1")["Architecture"] == "arm64"
    with tarfile.open(tmp_path / "1.tar") as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    (entry,) = index["manifests"]
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/library/app:1",
        "org.opencontainers.image.created": "2017-07-14T02:40:00Z",
        "org.opencontainers.image.ref.name": "1",
    }


def test_an_oci_directory_is_read_by_umoci(world: Any, tmp_path: Path) -> None:
    world.export("oci", world.result(), dest=str(tmp_path / "out"), tar="false", name="app:1")

    umoci = ["umoci", "raw", "unpack", "--rootless", "--image", f"{tmp_path}/out:1", str(tmp_path / "tree")]
    subprocess.run(umoci, check=True, capture_output=True)
    assert (tmp_path / "tree/srv/app").read_text() == "app"
    assert Layout.at(tmp_path / "out").resolve("docker.io/library/app:1")


def test_an_image_without_a_name_is_the_latest_of_a_layout(world: Any, tmp_path: Path) -> None:
    first = world.export("oci", world.result(), dest=str(tmp_path / "out"), tar="false")
    second = world.export("oci", world.result("linux/arm64"), dest=str(tmp_path / "out"), tar="false")

    assert first["containerimage.digest"] != second["containerimage.digest"]
    (entry,) = Layout.at(tmp_path / "out").entries()
    assert entry.digest == second["containerimage.digest"]
    assert entry.annotations["org.opencontainers.image.ref.name"] == "latest"
    assert skopeo("inspect", "--override-arch=arm64", f"oci:{tmp_path}/out:latest")["Architecture"] == "arm64"


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_every_compression_is_unpacked_by_others(world: Any, tmp_path: Path, compression: str) -> None:
    archive = tmp_path / "out.tar"
    world.export("oci", world.result(), dest=str(archive), compression=compression, name="app:1")

    out = f"oci:{tmp_path}/copied:1"
    # skopeo checks every layer against the config while it changes the compression.
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--dest-compress-format=gzip", f"oci-archive:{archive}:1", out],
        check=True,
        capture_output=True,
    )
    kind = {"gzip": "+gzip", "zstd": "+zstd", "uncompressed": ".tar"}[compression]
    raw = skopeo("inspect", "--raw", f"oci-archive:{archive}:1")
    assert all(layer["mediaType"].endswith(kind) for layer in raw["layers"])


def test_a_docker_archive_is_loaded_by_skopeo(world: Any, tmp_path: Path) -> None:
    world.export("docker", world.result("linux/arm64"), dest=str(tmp_path / "out.tar"), name="app:1")

    assert skopeo("inspect", f"docker-archive:{tmp_path}/out.tar:app:1")["Architecture"] == "arm64"


def test_docker_cannot_hold_several_platforms(world: Any, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="several platforms"):
        world.export("docker", world.result("linux/amd64", "linux/arm64"), dest=str(tmp_path / "out.tar"))

    assert not (tmp_path / "out.tar").exists()


def test_several_outputs_tell_of_the_first(world: Any, tmp_path: Path) -> None:
    exports = [
        Export("local", {"dest": str(tmp_path / "files")}),
        Export("image", {"name": "app:1"}),
        Export("oci", {"dest": str(tmp_path / "out.tar")}),
        Export("cacheonly"),
    ]

    data = world.export_all(exports, world.result())

    assert data["image.name"] == "docker.io/library/app:1"
    assert (tmp_path / "files/etc/arch").exists()
    assert (tmp_path / "out.tar").exists()


def test_a_bad_option_of_one_output_stops_all(world: Any, tmp_path: Path) -> None:
    exports = [Export("image", {"name": "app:1"}), Export("oci", {"dset": "x"})]

    with pytest.raises(UsageError, match="dset"):
        world.export_all(exports, world.result())

    assert world.store.names.list() == ()


def test_an_image_without_layers_is_an_image(world: Any, tmp_path: Path) -> None:
    result = replace(world.result(), records=[None])

    data = world.export("oci", result, dest=str(tmp_path / "out.tar"), name="empty:1")

    assert skopeo("inspect", "--config", f"oci-archive:{tmp_path}/out.tar:1")["rootfs"]["diff_ids"] is None
    assert Descriptor.from_json(data["containerimage.descriptor"]).size > 0
