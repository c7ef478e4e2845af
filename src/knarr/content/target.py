"""What one may ask of a place that holds content: a registry's repository, the store, a layout, containerd.

Small protocols, so that a function takes only what it uses. Optional talents
(`Mounter`, `Predecessors`) are asked for with `isinstance`, with a plain path
when they are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import Readable

Report = Callable[[int], None]
"""Called with the number of bytes done so far (not an increment), for progress."""


class Fetcher(Protocol):
    """A place to read blobs and manifests from."""

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """The content as a stream that verifies size and digest on the way (fails at the end on a mismatch).

        Raises:
            NotFound: no such content here.
        """
        ...


class Pusher(Protocol):
    """A place to write blobs and manifests to."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the content is there, whole."""
        ...

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        """Store the content; visible only when complete and right. Already there is success.

        Raises:
            DigestMismatch, SizeMismatch: `content` is not what `descriptor` says; nothing is visible then.
        """
        ...


@runtime_checkable
class Resolver(Protocol):
    """A place where names lead to descriptors."""

    def resolve(self, name: str) -> Descriptor:
        """The descriptor a tag or digest text names here.

        Raises:
            NotFound: the name is unknown.
        """
        ...


class Tagger(Protocol):
    """A place where a name can be set; the content must be there first."""

    def tag(self, descriptor: Descriptor, name: str) -> None: ...


class Lender(Fetcher, Protocol):
    """A place that can be asked first whether it has something to read."""

    def lends(self, descriptor: Descriptor) -> bool:
        """Whether `open` would find the content."""
        ...


class Source(Fetcher, Resolver, Protocol):
    """Readable: names and content."""


class Target(Fetcher, Pusher, Resolver, Tagger, Protocol):
    """Readable and writable: what `copy_graph` needs of its far end."""


@runtime_checkable
class Mounter(Protocol):
    """A target that can take a blob from a sibling repository without a transfer."""

    def mount_from(self, descriptor: Descriptor, repository: str) -> bool:
        """Try it; False means: push in the ordinary way."""
        ...


@runtime_checkable
class Predecessors(Protocol):
    """A place that knows which manifests have `descriptor` as their subject."""

    def predecessors(self, descriptor: Descriptor, artifact_type: str = "") -> tuple[Descriptor, ...]: ...


class BlobStore(Fetcher, Pusher, Protocol):
    """A local place for blobs, with the extra words of one: paths, small reads, removal."""

    def read(self, descriptor: Descriptor) -> bytes:
        """The whole content of something small (a manifest, a config: at most 8 MiB), verified.

        Raises:
            NotFound, DigestMismatch, SizeMismatch
        """
        ...

    def put(self, media_type: str, data: bytes) -> Descriptor:
        """Store something small that was just made, and describe it."""
        ...

    def find(self, digest: Digest) -> int | None:
        """The size of the blob, or None when it is not here."""
        ...
