"""Images of any kind, put straight into the registry that misbehaves on purpose."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.remote.fakeregistry import FakeRegistry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def entry(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A tar entry; `fields` are attributes of TarInfo."""
    info = tarfile.TarInfo(name)
    info.mode, info.size = 0o755, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An uncompressed layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def describe(far: FakeRegistry, repository: str, data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": far.add_blob(repository, data), "size": len(data)}


def publish(
    far: FakeRegistry, name: str, tars: Sequence[bytes], *, architecture: str = "amd64", **replaced: Any
) -> dict[str, Any]:
    """Push an image of the layers `tars` as NAME:latest; gives its descriptor. `replaced`: fields of the manifest."""
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": describe(far, name, json.dumps(config).encode(), CONFIG),
        "layers": [describe(far, name, gzip.compress(tar), LAYER) for tar in tars],
        **replaced,
    }
    raw = json.dumps(manifest).encode()
    digest = far.add_manifest(name, "latest", raw, MANIFEST)
    platform = {"architecture": architecture, "os": "linux"}
    return {"mediaType": MANIFEST, "digest": digest, "size": len(raw), "platform": platform}


def publish_index(far: FakeRegistry, name: str, manifests: Sequence[dict[str, Any]]) -> None:
    """Put an index of `manifests` behind NAME:latest."""
    raw = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}).encode()
    far.add_manifest(name, "latest", raw, INDEX)


def busybox(layout: Path) -> bytes:
    """The layer of the busybox image for amd64, uncompressed."""

    def blob(digest: str) -> bytes:
        return (layout / "blobs" / digest.replace(":", "/")).read_bytes()

    top = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    document = json.loads(blob(top["digest"]))
    chosen = next(m for m in document["manifests"] if m["platform"]["architecture"] == "amd64")
    data = blob(json.loads(blob(chosen["digest"]))["layers"][0]["digest"])
    return gzip.decompress(data)
