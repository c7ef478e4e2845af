"""A namespace of containerd's as a repository: images are copied from it and to it as from and to a registry.

The names that begin with `host/repository:` are its tags. Referrers hang on their
subject by a label of containerd's (2.x follows it), so the collector keeps them
as long as the subject; digest tags are names like any others. Nothing that arrives
is held by anything but the lease of `daemon` until its parent has its labels, and the
root its name.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from knarr.containerd import gclabels
from knarr.containerd.client import Containerd
from knarr.containerd.content import Content
from knarr.containerd.images import Images
from knarr.content.target import Report
from knarr.errors import NotFound
from knarr.image.successors import is_document, read_document
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import MAX_MANIFEST_BYTES, decode
from knarr.spec.referrers import entry as entry_of
from knarr.streams import CHUNK, Readable

SourceOf = Callable[[Digest], str]
"""The repository of a registry ("host/name") that a blob came from, or nothing."""


class ContainerdPlace:
    """One repository in one namespace. May be used from any thread."""

    complete = False  # it may have an index without all of its platforms: `ctr images pull` makes such

    def __init__(
        self,
        daemon: Containerd,
        name: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        source_of: SourceOf | None = None,
    ) -> None:
        """`name` is "host/repository"; `labels` are given to the names that are set."""
        self.name = name
        self.content = Content(daemon)
        self.images = Images(daemon)
        self._labels = dict(labels or {})
        self._source_of = source_of
        self._lock = threading.Lock()
        self._sent: set[Digest] = set()  # documents, with their labels
        self._waiting: dict[Digest, dict[str, str]] = {}  # referrers' labels, by a subject that is not here yet

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self.content.open(descriptor)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether it is here, a document with the labels that keep what it names."""
        if not self.content.has(descriptor):
            return False
        if not is_document(descriptor.media_type) or descriptor.digest in self._sent:
            return True
        return any(key.startswith(gclabels.CONTENT) for key in self.content.labels(descriptor.digest))

    def resolve(self, name: str) -> Descriptor:
        """What a tag or a digest leads to.

        Raises:
            NotFound: the namespace has no image of this name.
        """
        if ":" in name:
            return self._describe(Digest.parse(name))
        return self.images.get(f"{self.name}:{name}").target

    def tags(self) -> Iterator[str]:
        start = f"{self.name}:"
        for image in self.images.list():
            tag = image.name.removeprefix(start)
            if image.name.startswith(start) and "@" not in tag:
                yield tag

    def predecessors(self, descriptor: Descriptor, artifact_type: str = "") -> tuple[Descriptor, ...]:
        try:
            named = gclabels.referrers(self.content.labels(descriptor.digest))
        except NotFound:
            return ()
        found = []
        for digest in named:
            try:
                entry = entry_of(read_document(self, self._describe(digest)))
            except NotFound:
                continue  # 1.6 does not know the label: somebody may have pruned it
            if not artifact_type or entry.artifact_type == artifact_type:
                found.append(entry)
        return tuple(found)

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        if is_document(descriptor.media_type):
            self.push_manifest(descriptor, b"".join(iter(lambda: content.read(CHUNK), b"")))
            return
        self.content.push(descriptor, content, report=report, labels=self._origin(descriptor.digest))

    def push_manifest(self, descriptor: Descriptor, raw: bytes, *, tag: str = "") -> None:
        document = decode(raw, descriptor.media_type)
        with self._lock:
            waiting = self._waiting.pop(descriptor.digest, {})
        labels = {**gclabels.of_document(document), **self._origin(descriptor.digest), **waiting}
        self.content.push(descriptor.bare(), io.BytesIO(raw), labels=labels)
        self._sent.add(descriptor.digest)
        if document.subject is not None:
            self._hang(document.subject.digest, gclabels.of_referrer(descriptor.digest))
        if tag:
            self.tag(descriptor, f"{self.name}:{tag}")

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """Let a whole name lead to what is here."""
        self.images.set(name, descriptor.bare(), labels=self._labels)

    def _hang(self, subject: Digest, labels: Mapping[str, str]) -> None:
        # The subject may come after what refers to it: then the labels are given with it.
        with self._lock:
            try:
                self.content.label(subject, labels)
            except NotFound:
                self._waiting.setdefault(subject, {}).update(labels)

    def _origin(self, digest: Digest) -> dict[str, str]:
        source = self._source_of(digest) if self._source_of is not None else ""
        return gclabels.of_source(source) if source else {}

    def _describe(self, digest: Digest) -> Descriptor:
        size = self.content.find(digest)
        if size is None:
            raise NotFound(f"manifest {digest} is not in containerd")
        if size > MAX_MANIFEST_BYTES:
            raise NotFound(f"{digest} is a blob of {size} bytes, not a manifest")
        with self.content.open(Descriptor("", digest, size)) as stream:
            raw = b"".join(iter(lambda: stream.read(CHUNK), b""))
        return Descriptor(decode(raw).media_type, digest, size)
