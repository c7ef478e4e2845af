"""Labels by which containerd's collector finds what belongs together: from a document to what it names.

Its roots are image names, leases and containers; from there it follows labels only, and
never looks into a manifest. Content without them goes, however much an image needs it.

Facts: containerd's core/images/mediatypes.go and core/metadata/gc.go (2.3; 1.6 follows the same labels).
"""

from __future__ import annotations

from collections.abc import Mapping

from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest

CONTENT = "containerd.io/gc.ref.content."
SNAPSHOT = "containerd.io/gc.ref.snapshot."
REFERRER = CONTENT + "referrer."
UNCOMPRESSED = "containerd.io/uncompressed"
SOURCE = "containerd.io/distribution.source."


def of_document(document: Manifest | Index) -> dict[str, str]:
    """The labels of a manifest or an index: one for each of its children."""
    labels: dict[str, str] = {}
    counts: dict[str, int] = {}
    for child in document.successors:
        key = CONTENT + _kind(child, document)
        at = counts[key] = counts.get(key, -1) + 1
        if key.endswith(".") or at:
            key += str(at)
        labels[key] = str(child.digest)
    return labels


def of_referrer(digest: Digest) -> dict[str, str]:
    """The label of a subject for one of its referrers."""
    return {f"{REFERRER}{digest.algorithm}.{digest.hex[:12]}": str(digest)}


def referrers(labels: Mapping[str, str]) -> tuple[Digest, ...]:
    """The referrers that a subject's labels name."""
    return tuple(Digest.parse(value) for key, value in sorted(labels.items()) if key.startswith(REFERRER))


def of_snapshot(snapshotter: str, chain_id: str) -> dict[str, str]:
    """The label of an image's config for the snapshot its layers became."""
    return {SNAPSHOT + snapshotter: chain_id}


def of_source(repository: str) -> dict[str, str]:
    """The label of a blob for a registry's repository ("host/name") that has it: a push there can mount it."""
    host, _, name = repository.partition("/")
    return {SOURCE + host: name}


def _kind(child: Descriptor, parent: Manifest | Index) -> str:
    if isinstance(parent, Manifest):
        return "config" if child is parent.config else "l."
    return "m." if mediatype.is_manifest(child.media_type) or mediatype.is_index(child.media_type) else ""
