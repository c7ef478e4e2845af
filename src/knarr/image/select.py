"""Which manifest of an index serves a platform.

Attestation entries (platform unknown/unknown) never match, whatever is asked for.
Spec: image-spec v1.1, image-index.md; fallbacks (arm/v7 runs v6) as in containerd.
"""

from __future__ import annotations

from collections.abc import Iterable

from knarr.content.target import Fetcher
from knarr.errors import ContentError, NotFound
from knarr.image.successors import is_document, read_document
from knarr.spec.descriptor import Descriptor
from knarr.spec.manifest import Index, Manifest
from knarr.spec.platform import Platform, preference

REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
_MAX_DEPTH = 4  # of indexes in indexes; the field has one level, two at most


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether an entry of an index describes another entry instead of being an image."""
    if REFERENCE_TYPE in descriptor.annotations:
        return True
    return descriptor.platform is not None and descriptor.platform.is_attestation()


def images_of(index: Index) -> tuple[Descriptor, ...]:
    """The entries of `index` that may be run: manifests and nested indexes, no attestations or artifacts."""
    return tuple(
        entry
        for entry in index.manifests
        if not is_attestation(entry) and not entry.artifact_type and is_document(entry.media_type)
    )


def platforms_of(index: Index) -> tuple[Platform, ...]:
    """The platforms `index` has images for, in its order."""
    return tuple(entry.platform for entry in images_of(index) if entry.platform is not None)


def match(index: Index, wanted: Platform) -> Descriptor | None:
    """The best entry for `wanted`, or None. Among equals the first one wins."""
    entries = images_of(index)
    for candidate in preference(wanted):
        for entry in entries:
            if entry.platform is not None and _serves(entry.platform, candidate, wanted):
                return entry
    # An index of one image that does not say its platform: there is nothing else it could mean.
    return entries[0] if len(entries) == 1 and entries[0].platform is None else None


def _serves(offered: Platform, candidate: Platform, wanted: Platform) -> bool:
    if (offered.os, offered.architecture, offered.variant) != (candidate.os, candidate.architecture, candidate.variant):
        return False
    return not wanted.os_version or offered.os_version.startswith(wanted.os_version)


def select(index: Index, wanted: Platform) -> Descriptor:
    """The best entry of `index` for `wanted`.

    Raises:
        NotFound: none fits; the hint lists what there is.
    """
    found = match(index, wanted)
    if found is None:
        there = ", ".join(dict.fromkeys(str(platform) for platform in platforms_of(index)))
        raise NotFound(
            f"there is no image for {wanted}", hint=f"available: {there}" if there else "the index has no images at all"
        )
    return found


def manifest_for(source: Fetcher, root: Descriptor, wanted: Platform) -> tuple[Descriptor, Manifest]:
    """The manifest for `wanted` under `root`, and its descriptor.

    A `root` that is a manifest is given as it is: it names one image, whatever
    its platform is.

    Raises:
        NotFound: the index has none for the platform, or `source` lacks the manifest.
        ContentError: a document is malformed, or indexes are nested too deep.
    """
    descriptor = root
    for _ in range(_MAX_DEPTH):
        document = read_document(source, descriptor)
        if isinstance(document, Manifest):
            return descriptor, document
        descriptor = select(document, wanted)
    raise ContentError(f"{root.digest}: indexes are nested more than {_MAX_DEPTH} deep")


def restrict(index: Index, wanted: Iterable[Platform]) -> tuple[Descriptor, ...]:
    """The entries of `index` for these platforms, with the attestations about them, in the index's order.

    Raises:
        NotFound: one of the platforms has no entry.
    """
    chosen = {select(index, platform).digest for platform in wanted}
    return tuple(
        entry
        for entry in index.manifests
        if entry.digest in chosen or entry.annotations.get(REFERENCE_DIGEST, "") in chosen
    )
