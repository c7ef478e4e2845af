"""Attestations of a result in images, archives, directories and tars, compared with what BuildKit 0.33 made."""

from __future__ import annotations

import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knarr.attest.statement import Attestation
from knarr.content.memory import MemoryStore
from knarr.errors import KnarrError, Unsupported, UsageError
from knarr.export.attestations import attest
from knarr.export.options import image_options
from knarr.export.vertex import Vertex
from knarr.image.layout import Layout
from knarr.image.successors import read_document
from knarr.progress import Silent
from knarr.record import replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest, decode
from knarr.spec.platform import Platform
from tests.export.conftest import NOW

PREDICATE = b'{"builder":{"id":""}}'
AMD64 = Platform.parse("linux/amd64")


def provenance(**about: Any) -> Attestation:
    return Attestation("https://slsa.dev/provenance/v1", "provenance.json", lambda: PREDICATE, **about)


def attested(world: Any, *platforms: str, **about: Any) -> Any:
    found = world.result(*platforms)
    return replace(found, attestations=[[provenance(**about)] for _ in found.records])


def index_of(world: Any, data: dict[str, Any]) -> Index:
    document = decode(world.store.read(Descriptor.from_json(data["containerimage.descriptor"]).bare()))
    assert isinstance(document, Index)
    return document


def statement_of(world: Any, entry: Descriptor) -> dict[str, Any]:
    manifest = decode(world.store.read(entry.bare()))
    assert isinstance(manifest, Manifest)
    return dict(json.loads(world.store.read(manifest.layers[0].bare())))


def test_the_index_lists_an_attestation_for_each_platform_after_them(world: Any, said: Callable[[], set[str]]) -> None:
    data = world.export("image", attested(world, "linux/amd64", "linux/arm64"), name="registry.example/app:1")

    entries = index_of(world, data).manifests
    assert [str(entry.platform) for entry in entries] == ["linux/amd64", "linux/arm64", *["unknown/unknown"] * 2]
    for image, about in zip(entries[:2], entries[2:], strict=True):
        assert dict(about.annotations) == {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image.digest,
        }
        subject = statement_of(world, about)["subject"][0]
        assert subject["digest"] == {"sha256": image.digest.hex}
        assert subject["name"] == f"pkg:docker/registry.example/app@1?platform=linux%2F{image.platform.architecture}"
        assert f"exporting attestation manifest {about.digest}" in said()


def test_the_manifest_that_runs_is_the_same_with_and_without(world: Any) -> None:
    bare = world.export("image", world.result(), name="app:1")
    more = world.export("image", attested(world), name="app:2")

    assert index_of(world, more).manifests[0].digest == bare["containerimage.digest"]
    assert "containerimage.config.digest" not in more


def test_an_image_without_a_name_is_the_subject_all_the_same(world: Any) -> None:
    data = world.export("image", attested(world))

    image, about = index_of(world, data).manifests
    assert statement_of(world, about)["subject"] == [{"name": "_", "digest": {"sha256": image.digest.hex}}]


def test_the_documents_are_buildkits_byte_for_byte() -> None:
    """Members, their order and the spaces between them; compared with three manifests that buildkitd made."""
    about = Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.of(b"image"), 5)
    store = MemoryStore()
    options = image_options(export_of(name="example.test/a/b:1"))
    with Vertex(Silent(), "exporting") as vertex:
        made = attest([provenance()], about, AMD64, options.layers, store, vertex)

    assert store.read(made.entry.bare()).decode() == json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.docker.attestation.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "size": 2,
                "data": "e30=",
            },
            "layers": [
                {
                    "mediaType": "application/vnd.in-toto+json",
                    "digest": str(made.blobs[1].digest),
                    "size": made.blobs[1].size,
                    "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"},
                }
            ],
            "subject": {"mediaType": about.media_type, "digest": str(about.digest), "size": 5},
        },
        indent=2,
    )


def export_of(**attrs: str) -> Any:
    from knarr.builder import Export

    return Export("image", {key.replace("_", "-"): value for key, value in attrs.items()})


def test_the_older_form_has_a_config_and_no_subject(world: Any) -> None:
    data = world.export("image", attested(world), name="app", oci_artifact="false")

    manifest = decode(world.store.read(index_of(world, data).manifests[1].bare()))
    assert isinstance(manifest, Manifest)
    assert (manifest.subject, manifest.artifact_type) == (None, "")
    config = json.loads(world.store.read(manifest.config.bare()))
    assert config == {
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [str(manifest.layers[0].digest)]},
    }


@pytest.mark.parametrize(
    ("kind", "attrs", "has"),
    [
        ("image", {}, True),
        ("image", {"attestation_inline": "false"}, False),
        ("image", {"oci_mediatypes": "false"}, False),
        ("oci", {"dest": "out.tar"}, False),
        ("oci", {"dest": "out.tar", "attestation_inline": "true"}, True),
        ("docker", {"dest": "out.tar"}, False),
    ],
)
def test_inline_attestations_make_an_index_in_the_store_only(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, attrs: dict[str, str], has: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    data = world.export(kind, attested(world, inline_only=True), name="app", **attrs)

    assert data["containerimage.descriptor"]["mediaType"].endswith("index.v1+json") == has


def test_several_platforms_have_inline_attestations_in_an_archive_as_well(world: Any, tmp_path: Path) -> None:
    world.export(
        "oci", attested(world, "linux/amd64", "linux/arm64", inline_only=True), dest=str(tmp_path / "o"), tar="false"
    )

    layout = Layout(tmp_path / "o")
    index = read_document(layout, layout.entries()[0].bare())
    assert isinstance(index, Index)
    assert len(index.manifests) == 4
    assert all(layout.has(entry) for entry in index.manifests)


def test_dockers_media_types_and_attestations_exclude_each_other(world: Any) -> None:
    with pytest.raises(UsageError, match="attestations and oci-mediatypes=false exclude each other"):
        world.export("image", attested(world), name="app", oci_mediatypes="false")


def test_dockers_archive_holds_no_attestations(world: Any, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="type=docker cannot hold attestations"):
        world.export("docker", attested(world), dest=str(tmp_path / "out.tar"))


def test_a_directory_has_the_statement_as_a_file(world: Any, tmp_path: Path) -> None:
    world.export("local", attested(world), dest=str(tmp_path / "out"), attestation_prefix="x-")

    file = tmp_path / "out/x-provenance.json"
    said = json.loads(file.read_bytes())
    assert [one["name"] for one in said["subject"]] == ["bin/tool", "etc/arch"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_mtime_ns == NOW
    assert file.read_bytes() == json.dumps(said, indent=2).encode()


def test_inline_attestations_are_no_files(world: Any, tmp_path: Path) -> None:
    world.export("local", attested(world, inline_only=True), dest=str(tmp_path / "out"))

    assert not (tmp_path / "out/provenance.json").exists()


def test_directories_of_platforms_have_their_own_statements(world: Any, tmp_path: Path) -> None:
    result = attested(world, "linux/amd64", "linux/arm64")
    world.export("local", result, dest=str(tmp_path / "out"))

    names = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("provenance*.json"))
    assert names == ["out/linux_amd64/provenance.json", "out/linux_arm64/provenance.json"]


def test_a_tar_has_the_statement_in_the_order_of_names(world: Any, tmp_path: Path) -> None:
    world.export("tar", attested(world), dest=str(tmp_path / "out.tar"), source_date_epoch="1600000000")

    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getnames() == ["bin", "bin/tool", "etc", "etc/arch", "provenance.json"]
        found = tar.getmember("provenance.json")
        assert (found.mode, found.mtime) == (0o600, 1_600_000_000)


def test_two_statements_of_one_name_are_refused(world: Any, tmp_path: Path) -> None:
    found = world.result()
    result = replace(found, attestations=[[provenance(), provenance()]])

    with pytest.raises(KnarrError, match=r"two attestations are called provenance\.json"):
        world.export("local", result, dest=str(tmp_path / "out"))
