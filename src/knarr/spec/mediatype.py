"""Media types of images, OCI's and Docker's, and what can be told from them.

Spec: image-spec v1.1, media-types.md; Docker image manifest v2, schema 2.
"""

from __future__ import annotations

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
OCI_LAYER_NONDIST = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_LAYER_FOREIGN_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
IN_TOTO = "application/vnd.in-toto+json"
ATTESTATION = "application/vnd.docker.attestation.manifest.v1+json"  # artifact type of BuildKit's attestation manifests

TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"  # annotation of eStargz layers: digest of the table's JSON
UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"  # annotation of eStargz layers, in bytes
ESTARGZ = (TOC_DIGEST, UNCOMPRESSED_SIZE)

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)


def is_manifest(media_type: str) -> bool:
    return media_type in MANIFESTS


def is_index(media_type: str) -> bool:
    return media_type in INDEXES


def is_layer(media_type: str) -> bool:
    return media_type.startswith(
        (OCI_LAYER, OCI_LAYER_NONDIST, DOCKER_LAYER, "application/vnd.docker.image.rootfs.foreign")
    )


def compression_of(media_type: str) -> str:
    """`gzip`, `zstd` or `uncompressed`, as a layer's media type claims (bytes may differ: `layer.sniff` knows)."""
    if media_type.endswith(("+gzip", ".gzip")):
        return "gzip"
    if media_type.endswith(("+zstd", ".zstd")):
        return "zstd"
    return "uncompressed"


def layer_type(compression: str, *, oci: bool) -> str:
    """The layer media type for `gzip`, `estargz` (gzip's), `zstd` or `uncompressed`."""
    compression = "gzip" if compression == "estargz" else compression
    base = OCI_LAYER if oci else DOCKER_LAYER
    joint = "+" if oci else "."
    return base if compression == "uncompressed" else f"{base}{joint}{compression}"
