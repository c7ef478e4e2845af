# ruff: noqa: F811  # fixtures that are imported
"""What a copy keeps, measured on Debian's docker-registry 2.8 (no referrers API): skopeo beside `knarr copy`.

The rows of the matrix are the top digest, attestations in the index, referrers of the index, of a platform and of
a referrer, and digest tags.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import NotFound
from knarr.remote.repository import Registry, Repository
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.reference import Reference
from tests.conftest import knarr  # noqa: F401  # a fixture; the other tests here run the installed program
from tests.image.universe import Universe
from tests.remote.conftest import StartRegistry, start_registry  # noqa: F401  # a fixture

pytestmark = pytest.mark.system

Knarr = Callable[..., str]


@pytest.fixture
def hosts(start_registry: StartRegistry) -> tuple[str, str]:
    return start_registry().host, start_registry().host


@pytest.fixture
def client() -> Iterator[Registry]:
    with Registry(RegistrySettings(hosts_dirs=()), lambda _: Credentials()) as client:
        yield client


def skopeo(*argv: str) -> str:
    done = subprocess.run(["skopeo", "--insecure-policy", *argv], check=True, capture_output=True, text=True)
    return done.stdout


def kept(universe: Universe, place: Repository, tag: str) -> dict[str, bool]:
    """The row of the matrix: what can be found at a place by who starts from the tag."""

    def lists(subject: Any, referrer: Any) -> bool:
        found = {entry.digest for entry in place.predecessors(subject.descriptor.bare())}
        return referrer.descriptor.digest in found

    def has_tag(name: str) -> bool:
        try:
            return place.resolve(name).digest == universe.tags[name]
        except NotFound:
            return False

    return {
        "digest": place.resolve(tag).digest == universe.root.digest,
        "in-index attestations": all(place.has(m.descriptor) for m in (*universe.attested, universe.old)),
        "attestations discovered": lists(universe.amd64, universe.attested[0]),
        "referrer of the index": lists(universe.index, universe.sbom),
        "referrer of a platform": lists(universe.amd64, universe.child_sbom),
        "referrer of a referrer": lists(universe.sbom, universe.signature),
        "digest tags": all(has_tag(name) for name in universe.tags),
    }


def test_knarr_keeps_everything_and_skopeo_does_not(hosts: tuple[str, str], client: Registry, knarr: Knarr) -> None:
    source, target = hosts
    universe = Universe()
    universe.push_to(client.repository(Reference.parse(f"{source}/team/app")), "1")

    knarr("copy", f"{source}/team/app:1", f"{target}/team/knarr:1")
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", "-q", "--all", *plain, f"docker://{source}/team/app:1", f"docker://{target}/team/skopeo:1")

    ours = kept(universe, client.repository(Reference.parse(f"{target}/team/knarr")), "1")
    theirs = kept(universe, client.repository(Reference.parse(f"{target}/team/skopeo")), "1")
    assert all(ours.values()), ours
    hanging = ("referrer of the index", "referrer of a platform", "referrer of a referrer", "digest tags")
    assert {name: theirs[name] for name in hanging} == dict.fromkeys(hanging, False)


def test_every_archive_and_layout_carries_everything(
    hosts: tuple[str, str], client: Registry, knarr: Knarr, tmp_path: Path
) -> None:
    source, target = hosts
    universe = Universe()
    universe.push_to(client.repository(Reference.parse(f"{source}/team/app")), "1")
    places = (
        f"oci:{tmp_path}/layout:1",
        f"oci-archive:{tmp_path}/oci.tar:1",
        f"docker-archive:{tmp_path}/docker.tar:corp.example/team/app:1",
        "store:corp.example/team/app:1",
    )

    for number, place in enumerate(places):
        knarr("copy", f"{source}/team/app:1", place)
        knarr("copy", place, f"{target}/team/back-{number}:1")

        universe.assert_at(client.repository(Reference.parse(f"{target}/team/back-{number}")), "1")
    assert "sha256-" not in knarr("images")
    assert "sha256-" in knarr("images", "--all")
    knarr("rmi", "corp.example/team/app:1")
    assert "corp.example" not in knarr("images", "--all")
    raw = skopeo("inspect", "--raw", f"oci:{tmp_path}/layout:1")
    assert raw.encode() == universe.index.raw
    with tarfile.open(tmp_path / "docker.tar") as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)[0]["RepoTags"] == ["corp.example/team/app:1"]


def test_all_tags_of_a_repository_with_one_list_of_referrers_each(
    hosts: tuple[str, str], client: Registry, knarr: Knarr
) -> None:
    source, target = hosts
    place = client.repository(Reference.parse(f"{source}/team/app"))
    first, second = Universe("first"), Universe("second")
    first.push_to(place, "1")
    second.push_to(place, "2")

    knarr("copy", "-a", f"{source}/team/app", f"{target}/team/app")

    copied = client.repository(Reference.parse(f"{target}/team/app"))
    first.assert_at(copied, "1")
    second.assert_at(copied, "2")
    assert set(copied.tags()) == set(place.tags())


def test_the_report_says_what_was_kept_and_left_out(hosts: tuple[str, str], client: Registry, knarr: Knarr) -> None:
    source, target = hosts
    universe = Universe()
    universe.push_to(client.repository(Reference.parse(f"{source}/team/app")), "1")

    text = knarr("copy", "--attestations", "referrers", f"{source}/team/app:1", f"{target}/team/app:1")

    assert "kept: 1 image, 2 platforms, 4 referrers, 1 digest tag" in text
    assert f"the digest changes from {universe.root.digest} to " in text
    assert "left out: 2 referrers, 3 digest tags" in text
    data = json.loads(knarr("copy", "--format", "json", f"{source}/team/app:1", f"{target}/team/app:2"))
    assert (data["sourceDigest"], data["digest"]) == (universe.root.digest, universe.root.digest)
    assert {one["digest"] for one in data["kept"]} == universe.digests
    assert data["blobs"]["copied"] > 0


def test_mistakes_are_told_with_a_way_out(hosts: tuple[str, str], knarr: Knarr, tmp_path: Path) -> None:
    source, target = hosts
    assert "needs a source and a target" in knarr("copy", "one", status=2)
    assert "docker-daemon: is not supported" in knarr("copy", "docker-daemon:app", "oci:x", status=2)
    assert "not found" in knarr("copy", f"{source}/no/such:1", f"{target}/no/such:1", status=1)
    assert "is not an OCI layout" in knarr("copy", f"oci:{tmp_path}", f"{target}/no/such:1", status=1)
    knarr("copy", "--attestations", "elsewhere", "a", "b", status=2)
    knarr("copy", "--jobs", "0", "a", "b", status=2)
