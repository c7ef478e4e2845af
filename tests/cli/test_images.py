"""The commands about images, against a real registry, skopeo and umoci as judges."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knarr.cli import main
from knarr.cli.history import steps
from knarr.image.stored import StoredImage
from knarr.spec import mediatype
from knarr.spec.config import History, ImageConfig
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_manifest
from knarr.spec.platform import Platform, host_platform

pytestmark = pytest.mark.system

Knarr = Callable[..., str]
OTHER = "linux/arm64" if host_platform().architecture == "amd64" else "linux/amd64"


@pytest.fixture
def knarr(bases: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Knarr:
    """Runs a command on a store of its own; gives its standard output, or with `status` its standard error."""
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path / "state"))
    monkeypatch.setenv("KNARR_HOSTS_DIR", str(bases.hosts_dir))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))

    def run(*argv: str, status: int = 0) -> str:
        capfd.readouterr()
        found = main(list(argv))
        out, err = capfd.readouterr()
        assert found == status, err
        return err if status else out

    return run


def skopeo(*argv: str) -> dict[str, Any]:
    done = subprocess.run(["skopeo", "--insecure-policy", *argv], check=True, capture_output=True)
    return dict(json.loads(done.stdout)) if done.stdout.startswith(b"{") else {}


def raw_digest(address: str) -> str:
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{address}"], check=True, capture_output=True
    )
    return str(Digest.of(done.stdout))


def test_a_pull_takes_this_platform_and_keeps_the_digest(knarr: Knarr, bases: Any) -> None:
    said = knarr("pull", "-q", "busybox")

    assert said == f"docker.io/library/busybox:latest@{raw_digest(f'{bases.address}/library/busybox:latest')}\n"
    (line,) = (json.loads(text) for text in knarr("images", "--format", "json").splitlines())
    assert (line["Repository"], line["Tag"]) == ("busybox", "latest")
    assert line["Platforms"] == [str(host_platform())]


def test_other_platforms_can_be_added_later(knarr: Knarr) -> None:
    knarr("pull", "-q", "busybox")
    knarr("pull", "-q", "--all-platforms", "busybox")

    (line,) = (json.loads(text) for text in knarr("images", "--format", "json").splitlines())
    assert sorted(line["Platforms"]) == ["linux/amd64", "linux/arm64"]


def test_a_platform_that_does_not_exist_is_told_with_those_that_do(knarr: Knarr) -> None:
    said = knarr("pull", "-q", "--platform", "linux/s390x", "busybox", status=1)

    assert "there is no image for linux/s390x (image busybox:latest)" in said
    assert "hint: available: linux/amd64, linux/arm64" in said
    assert knarr("images", "-q") == ""


def test_progress_has_a_line_for_every_blob(knarr: Knarr, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "--progress=plain", "busybox"]) == 0

    said = capfd.readouterr().err
    assert "pull busybox:latest" in said
    assert said.count("pulling sha256:") >= 2


def test_a_push_sends_platforms_that_were_never_fetched(knarr: Knarr, bases: Any) -> None:
    knarr("pull", "-q", "busybox")
    target = f"{bases.address}/team/copy:1"
    knarr("tag", "busybox", target)

    said = knarr("push", "-q", target)

    assert said.strip().endswith(raw_digest(target))
    shown = skopeo("--override-arch", OTHER.partition("/")[2], "inspect", "--tls-verify=false", f"docker://{target}")
    assert shown["Architecture"] == OTHER.partition("/")[2]


def test_one_platform_can_be_pushed_alone(knarr: Knarr, bases: Any) -> None:
    knarr("pull", "-q", "--all-platforms", "busybox")
    target = f"{bases.address}/team/single:1"
    knarr("tag", "busybox", target)

    knarr("push", "-q", "--platform", OTHER, target)

    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{target}")
    assert raw["mediaType"] == mediatype.OCI_MANIFEST


def test_pushing_again_sends_nothing(knarr: Knarr, bases: Any, capfd: pytest.CaptureFixture[str]) -> None:
    knarr("pull", "-q", "busybox")
    target = f"{bases.address}/team/again:1"
    knarr("tag", "busybox", target)
    knarr("push", "-q", target)

    assert main(["push", "--progress=plain", target]) == 0

    assert "0 copied" in capfd.readouterr().err


def test_an_unknown_image_is_told(knarr: Knarr) -> None:
    assert "there is no image app:1 in the store" in knarr("push", "-q", "app:1", status=1)
    assert "there is no image app:1 in the store" in knarr("inspect", "app:1", status=1)
    assert "not a platform" in knarr("pull", "--platform", "a/b/c/d", "busybox", status=2)


def test_names_come_and_go(knarr: Knarr) -> None:
    knarr("pull", "-q", "busybox")
    knarr("tag", "busybox", "app:1", "registry.example/app:2")
    digest = knarr("images", "-q", "busybox").strip()

    assert "removed docker.io/library/app:1" in knarr("rmi", "app:1")
    assert knarr("images", "--filter", "reference=app", "-q") == ""
    assert sorted(knarr("rmi", digest).split()) == sorted(
        ["removed", "docker.io/library/busybox:latest", "removed", "registry.example/app:2"]
    )
    assert knarr("images", "-a", "-q") == ""
    assert "there is no image" in knarr("rmi", "app:1", status=1)
    knarr("rmi", "-f", "app:1")


def test_the_table_has_what_people_look_for(knarr: Knarr) -> None:
    knarr("pull", "-q", "busybox")

    head, line = knarr("images", "--digests").splitlines()

    assert head.split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "PLATFORMS", "SIZE"]
    assert line.split()[:2] == ["busybox", "latest"]
    assert str(host_platform()) in line


def test_inspect_shows_documents_and_their_exact_bytes(knarr: Knarr) -> None:
    knarr("pull", "-q", "busybox")

    (shown,) = json.loads(knarr("inspect", "busybox"))
    raw = knarr("inspect", "--raw", "busybox")

    assert Digest.of(raw.encode()) == shown["Digest"]
    assert shown["Index"]["manifests"][0]["platform"]["os"] == "linux"
    (image,) = shown["Images"]
    assert image["Config"]["os"] == "linux"
    config = knarr("inspect", "--config", "--platform", str(host_platform()), "busybox")
    assert Digest.of(config.encode()) == image["Manifest"]["config"]["digest"]
    assert "is not in the store for " + OTHER in knarr("inspect", "--platform", OTHER, "--config", "busybox", status=1)


def test_history_tells_the_steps_of_an_image(knarr: Knarr) -> None:
    knarr("pull", "-q", "busybox")

    head, *lines = knarr("history", "busybox").splitlines()

    assert head.startswith("LAYER")
    assert len(lines) == len(json.loads(knarr("inspect", "busybox"))[0]["Images"][0]["Config"].get("history", [0]))


def test_layers_before_the_told_history_are_listed_first() -> None:
    layers = [Descriptor(mediatype.OCI_LAYER_GZIP, Digest.of(bytes([n])), n) for n in range(3)]
    config = Descriptor(mediatype.OCI_CONFIG, Digest.of(b"c"), 1)
    told = (History(created_by="b"), History(created_by="ENV", empty_layer=True), History(created_by="c"))
    platform = Platform("linux", "amd64")
    image = StoredImage(config, platform, encode_manifest(config, layers), ImageConfig(platform, history=told), 0)

    assert [(step.created_by, step.size_bytes) for step in steps(image)] == [("c", 2), ("ENV", 0), ("b", 1), ("", 0)]


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_a_saved_archive_is_read_by_skopeo_and_by_us(
    knarr: Knarr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    knarr("pull", "-q", "--all-platforms", "busybox")
    archive = tmp_path / "out.tar"

    knarr("save", "-q", "--format", form, "-o", str(archive), "busybox")

    shown = skopeo("inspect", f"{form}-archive:{archive}:{'busybox:latest' if form == 'docker' else 'latest'}")
    assert shown["Os"] == "linux"
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path / "second"))
    assert knarr("load", "-q", "-i", str(archive)) == "Loaded image: docker.io/library/busybox:latest\n"
    (line,) = (json.loads(text) for text in knarr("images", "--format", "json").splitlines())
    assert sorted(line["Platforms"]) == ["linux/amd64", "linux/arm64"]


def test_an_image_of_which_one_platform_is_here_can_be_moved(
    knarr: Knarr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = knarr("pull", "-q", "--platform", OTHER, "busybox")
    knarr("save", "-q", "-o", str(tmp_path / "out.tar"), "busybox")
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path / "second"))

    knarr("load", "-q", "-i", str(tmp_path / "out.tar"))

    (line,) = (json.loads(text) for text in knarr("images", "--format", "json").splitlines())
    assert line["Platforms"] == [OTHER]
    assert said.strip().endswith(line["Digest"])


def test_compressed_archives_and_layout_directories_are_loaded(knarr: Knarr, bases: Any, tmp_path: Path) -> None:
    archive = tmp_path / "docker.tar"
    skopeo("copy", f"oci:{bases.layout}:latest", f"docker-archive:{archive}:registry.example/app:1")
    (tmp_path / "docker.tar.gz").write_bytes(gzip.compress(archive.read_bytes(), 1))

    assert knarr("load", "-q", "-i", str(tmp_path / "docker.tar.gz")) == "Loaded image: registry.example/app:1\n"
    assert knarr("load", "-q", "-i", str(bases.layout)).startswith("Loaded image: ")


def test_a_damaged_archive_sets_no_name(knarr: Knarr, tmp_path: Path) -> None:
    knarr("pull", "-q", "busybox")
    archive = tmp_path / "out.tar"
    knarr("save", "-q", "-o", str(archive), "busybox")
    knarr("rmi", "busybox")
    archive.write_bytes(archive.read_bytes()[:-30_000])

    said = knarr("load", "-q", "-i", str(archive), status=1)

    assert "archive" in said
    assert knarr("images", "-a", "-q") == ""


def test_archives_go_through_pipes(knarr: Knarr, tmp_path: Path) -> None:
    knarr("pull", "-q", "busybox")
    environ = {**os.environ, "KNARR_ROOT": str(tmp_path / "second")}
    command = [sys.executable, "-m", "knarr"]

    with subprocess.Popen([*command, "save", "-q", "busybox"], stdout=subprocess.PIPE) as saving:
        loaded = subprocess.run([*command, "load", "-q"], stdin=saving.stdout, env=environ, capture_output=True)

    assert (saving.returncode, loaded.returncode) == (0, 0), loaded.stderr
    assert loaded.stdout == b"Loaded image: docker.io/library/busybox:latest\n"
