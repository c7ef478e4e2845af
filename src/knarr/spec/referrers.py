"""How referrers are found where no API tells: the referrers tag, its index, and cosign's digest tags.

Spec: distribution-spec v1.1, "Referrers Tag Schema"; cosign 2, "Signature
Specification" (`<repository>:sha256-<hex>.sig`, `.att`, `.sbom`).
"""

from __future__ import annotations

import re

from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest

DIGEST_TAG_ENDINGS = ("sig", "att", "sbom")  # what cosign writes; other endings are met, too
_OF_DIGEST = re.compile(r"(?P<algorithm>sha256|sha384|sha512)-(?P<hex>[0-9a-f]{64})(?:\.(?P<ending>[\w.-]+))?")


def fallback_tag(digest: Digest) -> str:
    """`sha256-<hex>`: algorithm cut to 32 characters, hex to 64, what a tag may not have replaced by `-`."""
    algorithm = "".join(c if c.isalnum() or c in "._-" else "-" for c in digest.algorithm[:32])
    return f"{algorithm}-{digest.hex[:64]}"


def is_fallback_tag(tag: str) -> bool:
    """Whether `tag` has the form of a referrers tag."""
    match = _OF_DIGEST.fullmatch(tag)
    return match is not None and match["ending"] is None


def is_digest_tag(tag: str) -> bool:
    """Whether `tag` hangs something on a digest by its form: `sha256-<hex>.sig` and the like."""
    match = _OF_DIGEST.fullmatch(tag)
    return match is not None and match["ending"] is not None


def entry(document: Manifest | Index) -> Descriptor:
    """A manifest as its subject's list shows it: annotations copied; a config's type stands in for the artifact's."""
    kind = document.artifact_type
    if not kind and isinstance(document, Manifest):
        kind = document.config.media_type
    plain = document.descriptor
    return Descriptor(plain.media_type, plain.digest, plain.size, annotations=document.annotations, artifact_type=kind)
