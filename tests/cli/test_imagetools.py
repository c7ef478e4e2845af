"""`knarr imagetools`, `tags`, `manifest` and `referrers`, against registries in this process.

What buildx 0.30 prints for the same images was compared by hand, and is written down here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.reference import Reference
from tests.image.universe import Universe
from tests.remote.fakeregistry import FakeRegistry

Knarr = Callable[..., str]


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(referrers=False) as registry:
        yield registry


@pytest.fixture
def at(registry: FakeRegistry) -> Iterator[Callable[[str], Any]]:
    with Registry(RegistrySettings(hosts_dirs=()), lambda _: Credentials()) as client:
        yield lambda name: client.repository(Reference.parse(f"{registry.host}/{name}"))


@pytest.fixture
def app(registry: FakeRegistry, at: Callable[[str], Any]) -> tuple[Universe, str]:
    """An image with everything, and its name."""
    universe = Universe()
    universe.push_to(at("app"), "1")
    return universe, f"{registry.host}/app:1"


def test_inspect_shows_what_buildx_shows(app: tuple[Universe, str], knarr: Knarr) -> None:
    universe, name = app
    lines = knarr("imagetools", "inspect", name).splitlines()
    assert lines[:9] == [
        f"Name:      {name}",
        "MediaType: application/vnd.oci.image.index.v1+json",
        f"Digest:    {universe.root.digest}",
        "           ",
        "Manifests: ",
        f"  Name:        {name}@{universe.amd64.descriptor.digest}",
        "  MediaType:   application/vnd.oci.image.manifest.v1+json",
        "  Platform:    linux/amd64",
        "               ",
    ]
    assert lines[16:18] == [
        "  Annotations: ",
        f"    vnd.docker.reference.digest: {universe.amd64.descriptor.digest}",
    ]
    assert knarr("imagetools", "inspect", "--raw", name).encode() == universe.index.raw


def test_inspect_takes_buildx_templates(app: tuple[Universe, str], knarr: Knarr) -> None:
    universe, name = app
    assert knarr("imagetools", "inspect", name, "--format", "{{.Name}} {{.Manifest.Digest}}") == (
        f"{name} {universe.root.digest}"
    )
    manifest = json.loads(knarr("imagetools", "inspect", name, "--format", "{{json .Manifest}}"))
    assert list(manifest) == ["schemaVersion", "mediaType", "digest", "size", "manifests"]
    image = json.loads(knarr("imagetools", "inspect", name, "--format", '{{json (index .Image "linux/arm64")}}'))
    assert image["architecture"] == "arm64"
    everything = json.loads(knarr("imagetools", "inspect", name, "--format", "json"))
    assert set(everything) == {"name", "manifest", "image"}
    assert "there is no field .Nmae" in knarr("imagetools", "inspect", name, "--format", "{{.Nmae}}", status=2)


def test_create_puts_platforms_of_two_repositories_together_with_what_belongs_to_them(
    app: tuple[Universe, str], registry: FakeRegistry, at: Callable[[str], Any], knarr: Knarr, tmp_path: Path
) -> None:
    first, name = app
    second = Universe("second")
    second.push_to(at("other"), "2")
    made = f"{registry.host}/made:all"

    arm64 = f"{registry.host}/other@{second.arm64.descriptor.digest}"
    metadata = tmp_path / "metadata.json"
    knarr("imagetools", "create", "-t", made, "--metadata-file", str(metadata), name, arm64)

    place = at("made")
    digest = json.loads(metadata.read_text())["containerimage.descriptor"]["digest"]
    assert place.resolve("all").digest == digest
    children = json.loads(knarr("manifest", made))["manifests"]
    assert len(children) == 6
    assert {entry.digest for entry in place.predecessors(first.amd64.descriptor)} == first.referrers[
        first.amd64.descriptor.digest
    ]
    assert {entry.digest for entry in place.predecessors(second.arm64.descriptor)} == second.referrers[
        second.arm64.descriptor.digest
    ]
    assert next(tag for tag in second.tags if tag.endswith(".att")) in set(place.tags())


def test_create_of_one_index_copies_it_with_everything(
    app: tuple[Universe, str], registry: FakeRegistry, at: Callable[[str], Any], knarr: Knarr
) -> None:
    universe, name = app
    knarr("imagetools", "create", "--tag", f"{registry.host}/copy:2", name)
    universe.assert_at(at("copy"), "2")


def test_append_adds_to_what_the_tag_names(
    app: tuple[Universe, str], at: Callable[[str], Any], registry: FakeRegistry, knarr: Knarr
) -> None:
    universe, name = app
    other = Universe("second")
    other.push_to(at("app"), "2")

    knarr("imagetools", "create", "--append", "-t", name, str(other.arm64.descriptor.digest))

    children = [entry["digest"] for entry in json.loads(knarr("manifest", name))["manifests"]]
    assert children == [entry.digest for entry in universe.index.manifests] + [other.arm64.descriptor.digest]


def test_dry_run_pushes_nothing(app: tuple[Universe, str], registry: FakeRegistry, knarr: Knarr) -> None:
    _, name = app
    before = dict(registry.tags)
    text = knarr("imagetools", "create", "--dry-run", "-p", "linux/arm64", "--annotation", "index:a=b", name)
    assert json.loads(text)["annotations"] == {"a": "b"}
    assert registry.tags == before


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("create", "a"), "no name to push to"),
        (("create", "-t", "corp.example/a"), "no sources"),
        (("create", "--dry-run", "corp.example/a", "corp.example/b", "sha256:" + "0" * 64), "several repositories"),
        (("create", "--dry-run", "{}"), "not a descriptor"),
        (("create", "--dry-run", '{"schemaVersion": 2}'), "where a descriptor"),
        (("elsewhere",), "not known"),
    ],
)
def test_mistakes_are_told(argv: tuple[str, ...], words: str, knarr: Knarr) -> None:
    assert words in knarr("imagetools", *argv, status=2)


def test_annotations_of_the_images_themselves_are_refused(app: tuple[Universe, str], knarr: Knarr) -> None:
    said = knarr("imagetools", "create", "--dry-run", "--annotation", "manifest:a=b", app[1], status=2)
    assert "would change the images" in said


def test_tags_leave_out_what_hangs_on_digests(app: tuple[Universe, str], registry: FakeRegistry, knarr: Knarr) -> None:
    universe, _ = app
    name = f"{registry.host}/app"
    assert knarr("tags", name) == "1\n"
    assert set(universe.tags) < set(knarr("tags", "--all", name).split())
    assert knarr("tags", "--digests", name) == f"1  {universe.root.digest}\n"
    assert knarr("tags", "--format", "{{.Name}}={{.Digest}}", name) == f"1={universe.root.digest}\n"
    assert json.loads(knarr("tags", "--format", "json", name)) == {"name": name, "tags": ["1"]}
    assert knarr("tags", "--filter", "re:[2-9]", name) == ""


def test_manifest_shows_documents_and_configs(app: tuple[Universe, str], knarr: Knarr) -> None:
    universe, name = app
    assert knarr("manifest", "--digest", name) == f"{universe.root.digest}\n"
    assert knarr("manifest", "--raw", "--platform", "linux/arm64", name).encode() == universe.arm64.raw
    assert json.loads(knarr("manifest", "--config", "--platform", "linux/arm64", name))["architecture"] == "arm64"
    assert knarr("manifest", "--format", "{{.Digest}} {{len .manifests}}", name) == f"{universe.root.digest} 5\n"


def test_referrers_are_a_tree(app: tuple[Universe, str], knarr: Knarr) -> None:
    universe, name = app
    lines = knarr("referrers", name).splitlines()
    at = lines.index(f"├── application/spdx+json  {universe.sbom.descriptor.digest}")
    assert lines[at + 1] == f"│   └── application/x-signature  {universe.signature.descriptor.digest}"
    assert sum(" tag  " in line for line in lines) == 4
    tree = json.loads(knarr("referrers", "--format", "json", name))
    assert tree["digest"] == universe.root.digest
    listed = knarr("referrers", "--type", "*x-signature", "--format", "{{.Kind}} {{.Digest}}", name)
    assert f"referrer {universe.signature.descriptor.digest}" not in listed  # its subject, the SBOM, is not wanted
    listed = knarr("referrers", "--format", "{{.ArtifactType}}", name)
    assert sorted(filter(None, listed.split())) == ["application/spdx+json"] * 2 + ["application/x-signature"]
