"""`save` and `load`: archives that others read, and archives that others wrote."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knarr.errors import ContentError, DigestMismatch, KnarrError, NotFound
from knarr.image.copy import copy_graph
from knarr.image.layout import Layout
from knarr.image.load import open_archive
from knarr.image.save import NamedImage, save
from knarr.image.successors import walk
from knarr.scope import Scope
from knarr.spec.config import ImageConfig, encode_config
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

AMD64, ARM64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
NAME = "docker.io/library/app:1"


def write(source: Any, root: Descriptor, path: Path, *names: str, **options: Any) -> Path:
    with open(path, "wb") as file, Scope() as scope:
        save(file, source, [NamedImage(root, names)], scope=scope, **options)
    return path


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {info.name: info for info in tar}


def member(path: Path, name: str) -> bytes:
    with tarfile.open(path) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def run(*words: str) -> bytes:
    return subprocess.run(words, check=True, capture_output=True).stdout


def test_an_archive_is_a_function_of_its_images(images: Any, tmp_path: Path) -> None:
    root = images.two_platforms()

    first = write(images.layout, root, tmp_path / "1.tar", NAME, docker_platform=AMD64)
    second = write(images.layout, root, tmp_path / "2.tar", NAME, docker_platform=AMD64)

    assert first.read_bytes() == second.read_bytes()
    found = members(first)
    assert list(found) == sorted(found)
    assert {info.mtime for info in found.values()} == {0}
    assert {oct(info.mode) for name, info in found.items() if info.isreg() and name.startswith("blobs")} == {"0o444"}


def test_what_is_saved_can_be_loaded(images: Any, tmp_path: Path, layout: Callable[[str], Layout]) -> None:
    root = images.two_platforms()
    path = write(images.layout, root, tmp_path / "app.tar", NAME, "registry.example/app:2")
    target = layout("target")

    with open(path, "rb") as file, Scope() as scope:
        archive = open_archive(file)
        (image,) = archive.images
        copy_graph(archive, target, image.descriptor, scope=scope)

    assert image == NamedImage(root, (NAME, "registry.example/app:2"))
    assert all(target.has(descriptor) for descriptor in walk(images.layout, root))


def test_a_missing_blob_is_told(images: Any, tmp_path: Path) -> None:
    root = images.manifest()
    layer = next(d for d in walk(images.layout, root) if "tar" in d.media_type)
    (tmp_path / "store" / "blobs" / "sha256" / layer.digest.hex).unlink()

    with pytest.raises(NotFound, match=layer.digest.hex):
        write(images.layout, root, tmp_path / "app.tar")


def test_platforms_that_are_not_here_are_left_out(images: Any, tmp_path: Path, layout: Callable[[str], Layout]) -> None:
    root = images.two_platforms()
    sparse = layout("sparse")
    with Scope() as scope:
        copy_graph(images.layout, sparse, root, scope=scope, platforms=[ARM64])

    path = write(sparse, root, tmp_path / "app.tar", NAME, has=sparse.has, docker_platform=AMD64)

    with open(path, "rb") as file:
        archive = open_archive(file)
        there = [archive.has(entry) for entry in images.entries_of(root)]
    assert there == [False, True, False, True]
    (listed,) = json.loads(member(path, "manifest.json"))
    assert listed["RepoTags"] == ["app:1"]


def test_an_index_without_any_image_cannot_be_saved(
    images: Any, tmp_path: Path, layout: Callable[[str], Layout]
) -> None:
    root = images.two_platforms()
    bare = layout("bare")
    with images.layout.open(root) as stream:
        bare.push(root, stream)

    with pytest.raises(NotFound, match="nothing"):
        write(bare, root, tmp_path / "app.tar", has=bare.has)


def docker_archive(path: Path, *, compressed: bool = False, link: bool = False, diff_ids: int = 1) -> Path:
    """An archive as old docker versions wrote it."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("hello"))
    plain = inner.getvalue()
    config = encode_config(ImageConfig(AMD64, diff_ids=(Digest.of(plain),) * diff_ids))
    manifest = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["id2/layer.tar" if link else "id1/layer.tar"]}]
    files = {
        "id1/layer.tar": gzip.compress(plain) if compressed else plain,
        "c.json": config,
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("id2/layer.tar")
            info.type, info.linkname = tarfile.SYMTYPE, "../id1/layer.tar"
            tar.addfile(info)
    return path


@pytest.mark.parametrize("options", [{}, {"compressed": True}, {"link": True}])
def test_old_docker_archives_are_read(
    tmp_path: Path, layout: Callable[[str], Layout], options: dict[str, bool]
) -> None:
    path = docker_archive(tmp_path / "old.tar", **options)  # type: ignore[arg-type]
    target = layout("target")

    with open(path, "rb") as file, Scope() as scope:
        archive = open_archive(file)
        (image,) = archive.images
        copy_graph(archive, target, image.descriptor, scope=scope)

    assert image.names == (NAME,)
    assert all(target.has(descriptor) for descriptor in walk(target, image.descriptor))


def test_a_config_that_disagrees_with_the_layers_is_refused(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "old.tar", diff_ids=2)

    with open(path, "rb") as file, pytest.raises(ContentError, match="names 2 layers"):
        open_archive(file)


def test_a_tar_of_something_else_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("hello"))

    with open(tmp_path / "x.tar", "rb") as file, pytest.raises(ContentError, match="not an image archive"):
        open_archive(file)


def test_a_cut_archive_is_refused(images: Any, tmp_path: Path, layout: Callable[[str], Layout]) -> None:
    path = write(images.layout, images.manifest(), tmp_path / "app.tar", NAME)
    (tmp_path / "cut.tar").write_bytes(path.read_bytes()[:2100])

    with open(tmp_path / "cut.tar", "rb") as file, pytest.raises(ContentError):
        open_archive(file)


def test_changed_bytes_in_an_archive_are_noticed(images: Any, tmp_path: Path, layout: Callable[[str], Layout]) -> None:
    root = images.manifest()
    path = write(images.layout, root, tmp_path / "app.tar", NAME)
    layer = next(d for d in walk(images.layout, root) if "tar" in d.media_type)
    with tarfile.open(path) as tar:
        offset = tar.getmember(f"blobs/sha256/{layer.digest.hex}").offset_data
    with open(path, "r+b") as file:
        file.seek(offset + 20)
        file.write(b"\0\1\2\3")

    with open(path, "rb") as file, Scope() as scope, pytest.raises(DigestMismatch):
        copy_graph(open_archive(file), layout("target"), root, scope=scope)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2000), st.integers(min_value=0, max_value=5000))
def test_damaged_archives_never_break_the_reader(tmp_path: Path, junk: bytes, at: int) -> None:
    path = docker_archive(tmp_path / "old.tar")
    data = path.read_bytes()
    path.write_bytes(data[:at] + junk + data[at + len(junk) :])

    with open(path, "rb") as file:
        try:
            archive = open_archive(file)
        except KnarrError:
            return
        assert all(image.descriptor.digest for image in archive.images)


@pytest.mark.system
def test_skopeo_reads_our_archive_in_both_forms(images: Any, tmp_path: Path) -> None:
    path = write(images.layout, images.two_platforms(), tmp_path / "app.tar", NAME, docker_platform=ARM64)

    as_docker = json.loads(run("skopeo", "inspect", f"docker-archive:{path}:app:1"))
    as_oci = json.loads(run("skopeo", "--override-arch", "amd64", "inspect", f"oci-archive:{path}:1"))

    assert as_docker["Architecture"] == "arm64"
    assert as_oci["Architecture"] == "amd64"


@pytest.mark.system
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_we_read_what_skopeo_writes(images: Any, tmp_path: Path, layout: Callable[[str], Layout], form: str) -> None:
    images.layout.tag(images.manifest("linux/amd64", {"a": b"1"}, {"b": b"2"}), NAME)
    out = tmp_path / "skopeo.tar"
    run("skopeo", "copy", "--insecure-policy", f"oci:{tmp_path}/store:1", f"{form}:{out}:docker.io/library/app:1")
    target = layout("target")

    with open(out, "rb") as file, Scope() as scope:
        archive = open_archive(file)
        (image,) = archive.images
        copy_graph(archive, target, image.descriptor, scope=scope)

    assert image.names == (NAME,)
    assert len(list(walk(target, image.descriptor))) == 4


@pytest.mark.system
def test_skopeo_copies_our_docker_archive_layer_by_layer(images: Any, tmp_path: Path) -> None:
    path = write(images.layout, images.manifest("linux/amd64"), tmp_path / "app.tar", NAME, docker_platform=AMD64)

    run("skopeo", "copy", "--insecure-policy", f"docker-archive:{path}", f"oci:{tmp_path}/copied:1")

    run("umoci", "raw", "unpack", "--rootless", "--image", f"{tmp_path}/copied:1", str(tmp_path / "tree"))
    assert (tmp_path / "tree" / "etc" / "motd").read_bytes() == b"linux/amd64"
