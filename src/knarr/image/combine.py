"""One index over several images: what `imagetools create` makes. Pure: documents in, a document out.

As buildx does it: an index among the sources gives its entries, a manifest is an
entry of its own; of equal digests the first keeps its place, and later ones add
what they know. A single index without changes stays byte for byte as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knarr.errors import NotFound, UsageError
from knarr.image.edit import with_entries
from knarr.image.select import restrict
from knarr.record import record, replace
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.manifest import Index, Manifest, encode_index
from knarr.spec.platform import Platform


@record
class Part:
    """One source: its descriptor as it is to stand in the index, and its document. `place` says where it is."""

    descriptor: Descriptor
    document: Manifest | Index
    place: str


@record
class Note:
    """An annotation for the entries of the index; without `platform` for all of them."""

    key: str
    value: str
    platform: Platform | None = None


@record
class Combined:
    """The document, and for each of its entries the place it comes from (of a manifest: its own)."""

    document: Manifest | Index
    places: Mapping[str, str]  # digest → Part.place


def combine(
    parts: Sequence[Part],
    *,
    prefer_index: bool = True,
    annotations: Mapping[str, str] | None = None,
    notes: Sequence[Note] = (),
    platforms: Sequence[Platform] = (),
) -> Combined:
    """The image that `parts` make together.

    Raises:
        NotFound: none of them serves a platform that is wanted.
        UsageError: annotations where there is no place for them.
    """
    first = parts[0]
    if len(parts) == 1 and not annotations and not notes:
        if isinstance(first.document, Index):
            return _for_platforms(first.document, {}, first.place, platforms)
        if not prefer_index:
            if platforms and first.descriptor.platform not in platforms:
                raise NotFound(f"{first.place} is for {first.descriptor.platform}, which is not wanted")
            return Combined(first.document, {first.descriptor.digest: first.place})
    entries, places = _entries(parts)
    docker = all(entry.media_type.startswith("application/vnd.docker.") for entry in entries)
    if docker and (annotations or notes):
        raise UsageError("Docker's manifest list has no annotations", hint="use sources of OCI's media types")
    index = encode_index([_noted(entry, notes) for entry in entries], oci=not docker, annotations=annotations)
    return _for_platforms(index, places, "", platforms)


def _entries(parts: Sequence[Part]) -> tuple[list[Descriptor], dict[str, str]]:
    found: dict[str, Descriptor] = {}
    places: dict[str, str] = {}
    for part in parts:
        own = part.document.manifests if isinstance(part.document, Index) else (part.descriptor,)
        for entry in own:
            old = found.get(entry.digest)
            found[entry.digest] = entry if old is None else _merged(old, entry)
            places[entry.digest] = part.place
    return list(found.values()), places


def _merged(old: Descriptor, new: Descriptor) -> Descriptor:
    notes = {**old.annotations, **new.annotations}
    if new.platform is None:
        return replace(old, annotations=notes)
    spelled = {"platform": new.extra["platform"]} if "platform" in new.extra else {}
    extra = {key: value for key, value in old.extra.items() if key != "platform"}
    return replace(old, platform=new.platform, annotations=notes, extra={**extra, **spelled})


def _noted(entry: Descriptor, notes: Sequence[Note]) -> Descriptor:
    more = {note.key: note.value for note in notes if note.platform is None or note.platform == entry.platform}
    return entry.with_annotations(more) if more else entry


def _for_platforms(index: Index, places: Mapping[str, str], place: str, platforms: Sequence[Platform]) -> Combined:
    if platforms:
        kept = restrict(index, platforms)
        if len(kept) < len(index.manifests):
            index = with_entries(index, kept)
    return Combined(index, {entry.digest: places.get(entry.digest, place) for entry in index.manifests})


def attestations_of(index: Index) -> Mapping[str, Sequence[Descriptor]]:
    """The attestation entries of an index by the digest of the image they are about."""
    from knarr.image.select import REFERENCE_DIGEST, is_attestation

    found: dict[str, list[Descriptor]] = {}
    for entry in index.manifests:
        if is_attestation(entry) and mediatype.is_manifest(entry.media_type):
            found.setdefault(entry.annotations.get(REFERENCE_DIGEST, ""), []).append(entry)
    return found
