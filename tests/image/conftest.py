"""Images made by hand, in an OCI layout that serves as the store of these tests."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from knarr.image.layout import Layout
from knarr.image.successors import successors
from knarr.spec import mediatype
from knarr.spec.config import History, ImageConfig, RunConfig, encode_config
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_index, encode_manifest
from knarr.spec.platform import Platform


class Images:
    """Makes content in a layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def put(self, media_type: str, data: bytes) -> Descriptor:
        descriptor = Descriptor(media_type, Digest.of(data), len(data))
        self.layout.push(descriptor, io.BytesIO(data))
        return descriptor

    def tar(self, files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    def manifest(self, platform: str = "linux/amd64", *files: dict[str, bytes], oci: bool = True) -> Descriptor:
        """One image with a layer for each of `files`, described with its platform."""
        plain = [self.tar(members) for members in files or ({"etc/motd": platform.encode()},)]
        kind = mediatype.layer_type("gzip", oci=oci)
        layers = [self.put(kind, gzip.compress(tar, mtime=0)) for tar in plain]
        config = ImageConfig(
            Platform.parse(platform),
            RunConfig(cmd=("/bin/true",), env=("PATH=/bin",)),
            tuple(Digest.of(tar) for tar in plain),
            tuple(History(created="2024-01-01T00:00:00Z", created_by=f"layer {n}") for n in range(len(plain))),
            created="2024-01-01T00:00:00Z",
        )
        config_type = mediatype.OCI_CONFIG if oci else mediatype.DOCKER_CONFIG
        manifest = encode_manifest(self.put(config_type, encode_config(config)), layers, oci=oci)
        found = self.put(manifest.media_type, manifest.raw)
        return Descriptor(found.media_type, found.digest, found.size, Platform.parse(platform))

    def attestation(self, subject: Descriptor) -> Descriptor:
        """An attestation manifest about `subject`, as BuildKit attaches it."""
        layer = self.put(mediatype.IN_TOTO, b'{"predicateType": "test", "of": "%s"}' % subject.digest.encode())
        config = self.put(mediatype.OCI_CONFIG, b'{"architecture":"unknown","os":"unknown"}')
        found = self.put(mediatype.OCI_MANIFEST, encode_manifest(config, [layer]).raw)
        notes = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": str(subject.digest),
        }
        return Descriptor(found.media_type, found.digest, found.size, Platform("unknown", "unknown"), notes)

    def index(self, *entries: Descriptor, oci: bool = True) -> Descriptor:
        index = encode_index(entries, oci=oci)
        return self.put(index.media_type, index.raw)

    def entries_of(self, root: Descriptor) -> tuple[Descriptor, ...]:
        """The entries of an index."""
        return successors(self.layout, root)

    def two_platforms(self) -> Descriptor:
        """An index of amd64 and arm64 with an attestation for each."""
        amd64, arm64 = self.manifest("linux/amd64"), self.manifest("linux/arm64")
        return self.index(amd64, arm64, self.attestation(amd64), self.attestation(arm64))


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(Layout.create(tmp_path / "store"))


@pytest.fixture
def layout(tmp_path: Path) -> Callable[[str], Layout]:
    """Makes empty layouts by name."""
    return lambda name: Layout.create(tmp_path / name)
