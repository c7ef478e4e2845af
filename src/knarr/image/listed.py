"""A list of entries (the index of a layout or an archive) looked at as one repository: tags, and who refers to whom.

Referrers are found both ways in which tools leave them in a layout: in the index
that a referrers tag names (regclient, and knarr), and as entries of their own whose
manifest has a subject (oras).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from knarr.content.target import Fetcher
from knarr.errors import ContentError, NotFound
from knarr.image.layout import IMAGE_NAME, REF_NAME
from knarr.image.successors import is_document, read_document
from knarr.record import replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest
from knarr.spec.reference import Reference
from knarr.spec.referrers import entry as entry_of
from knarr.spec.referrers import fallback_tag
from knarr.streams import Readable


class Holder(Fetcher, Protocol):
    """Where the content of the entries is."""

    def has(self, descriptor: Descriptor) -> bool: ...


class Listed:
    """The images of `entries`, whose content `place` has. May be used from any thread."""

    complete = False  # a layout may have an index without all of its platforms

    def __init__(self, name: str, place: Holder, entries: tuple[Descriptor, ...]) -> None:
        """`name` is for messages."""
        self.name = name
        self._place = place
        self._entries = entries
        self._subjects: dict[Digest, dict[Digest, Descriptor]] | None = None

    def entries(self) -> tuple[Descriptor, ...]:
        return self._entries

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self._place.open(descriptor)

    def has(self, descriptor: Descriptor) -> bool:
        return self._place.has(descriptor)

    def resolve(self, name: str) -> Descriptor:
        """The descriptor of a tag, of a full image name, or of the digest of an entry (or of something below one).

        Raises:
            NotFound: nothing here has this name; the hint lists what there is.
        """
        found = self._lookup(name)
        if found is None:
            tags = ", ".join(sorted(self.tags())[:20])
            raise NotFound(f"{self.name}: there is no {name} in it", hint=f"it has: {tags}" if tags else "it is empty")
        return found

    def _lookup(self, name: str) -> Descriptor | None:
        entries = self.entries()
        for entry in entries:
            if name in tags_of(entry) or name in (entry.annotations.get(IMAGE_NAME), entry.digest):
                return replace(entry, annotations={}).bare()
        return next((found for found in self._below(entries) if found.digest == name), None) if ":" in name else None

    def _below(self, entries: tuple[Descriptor, ...]) -> Iterator[Descriptor]:
        """The documents that are here below `entries`, themselves included."""
        seen: set[Digest] = set()
        todo = list(entries)
        while todo:
            descriptor = todo.pop()
            document = None if descriptor.digest in seen else self._document(descriptor)
            if document is None:
                continue
            seen.add(descriptor.digest)
            yield descriptor.bare()
            if isinstance(document, Index):
                todo += document.manifests

    def _document(self, descriptor: Descriptor) -> Index | Manifest | None:
        """The manifest or the index; None: it is neither, or not here, perhaps since it was replaced a moment ago."""
        if not is_document(descriptor.media_type) or not self.has(descriptor):
            return None
        try:
            return read_document(self, descriptor)
        except NotFound:
            return None

    def only(self) -> Descriptor:
        """The one image that is here, when there is one: referrers and digest tags do not count.

        Raises:
            NotFound: there is none, or one has to be chosen.
        """
        named = {entry.digest: entry.bare() for entry in images_in(self.entries())}
        images = {digest: found for digest, found in named.items() if not self._is_referrer(found)}
        if len(images) == 1:
            return next(iter(images.values()))
        if not images:
            raise NotFound(f"{self.name}: it has no image")
        tags = ", ".join(sorted(self.tags())[:20])
        raise NotFound(f"{self.name}: it has {len(images)} images", hint=f"name one of: {tags}")

    def _is_referrer(self, descriptor: Descriptor) -> bool:
        return any(descriptor.digest in of for of in self._by_subject().values())

    def tags(self) -> Iterator[str]:
        """Every tag, in the order of the list."""
        yield from dict.fromkeys(tag for entry in self.entries() for tag in tags_of(entry))

    def predecessors(self, descriptor: Descriptor, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """The manifests whose subject is `descriptor`."""
        found = {entry.digest: entry for entry in self.fallback(descriptor.digest)}
        for digest, entry in self._by_subject().get(descriptor.digest, {}).items():
            found.setdefault(digest, entry)
        return tuple(d for d in found.values() if not artifact_type or d.artifact_type == artifact_type)

    def fallback(self, subject: Digest) -> tuple[Descriptor, ...]:
        """What the referrers tag of `subject` lists."""
        listed = self._lookup(fallback_tag(subject))
        if listed is None or listed.digest == subject:
            return ()  # a name of its own, as cosign's copies have
        try:
            document = read_document(self, listed)
        except NotFound:
            if self._lookup(fallback_tag(subject)) == listed:
                raise
            return self.fallback(subject)  # somebody else wrote a longer one meanwhile, and removed this
        if not isinstance(document, Index):
            raise ContentError(f"{self.name}: {fallback_tag(subject)} is not an index")
        return document.manifests

    def _by_subject(self) -> dict[Digest, dict[Digest, Descriptor]]:
        """Subject → what refers to it, of the entries themselves; read once."""
        if self._subjects is None:
            subjects: dict[Digest, dict[Digest, Descriptor]] = {}
            for entry in self.entries():
                document = self._document(entry)
                if document is not None and document.subject is not None:
                    subjects.setdefault(document.subject.digest, {})[entry.digest] = entry_of(document)
            self._subjects = subjects
        return self._subjects


def tags_of(entry: Descriptor) -> tuple[str, ...]:
    """The tags that an entry has by its annotations: the short name, and the tag of a full one."""
    short = entry.annotations.get(REF_NAME, "")
    full = entry.annotations.get(IMAGE_NAME, "")
    if "/" in short or ":" in short:
        full, short = full or short, ""  # skopeo and podman write a whole reference there
    tag = Reference.parse(full).tag if full else ""
    return tuple(dict.fromkeys(filter(None, (short, tag))))


def images_in(entries: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    """The entries that are images by their names: neither lists of referrers nor digest tags."""
    from knarr.spec.referrers import is_digest_tag, is_fallback_tag

    def hangs(entry: Descriptor) -> bool:
        tags = tags_of(entry)
        return bool(tags) and all(is_fallback_tag(tag) or is_digest_tag(tag) for tag in tags)

    return tuple(entry for entry in entries if not hangs(entry))
