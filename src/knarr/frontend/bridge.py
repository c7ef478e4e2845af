"""What a frontend may ask while it compiles. The first of the three doors that open upward (house.md §2).

The Dockerfile compiler knows only this, so it runs in our engine, in front of a
remote buildkitd, and in a test with a dict.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from knarr.errors import UsageError
from knarr.llb.ops import SourceOp
from knarr.record import record
from knarr.spec.config import ImageConfig
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference


@record
class ResolvedImage:
    """A base image as the compiler needs it: where the tag leads now, and its config for the platform."""

    reference: Reference  # as asked, or what a source policy puts in its place
    digest: Digest  # of what the tag names (the index where there is one)
    config: ImageConfig
    raw_config: bytes


class NoImage(UsageError):
    """A source policy puts something in the place of an image that is none: the source `identifier`."""

    def __init__(self, reference: Reference, identifier: str) -> None:
        super().__init__(
            f"the source policy makes {identifier} of image {reference.familiar}",
            hint="an image that a stage begins with can become another image only",
        )
        self.identifier = identifier


class Bridge(Protocol):
    """Asked by a frontend; may block; may be called from several threads at once."""

    def image_config(self, reference: Reference, platform: Platform) -> ResolvedImage:
        """Resolve a base image.

        Raises:
            NotFound: no such image, or none for `platform`.
            RegistryError: the registry said no or could not be reached.
            NoImage: a source policy wants something else in its place.
        """
        ...

    def read(self, source: str, path: str) -> bytes | None:
        """A small file of a local source (`context`, `dockerfile`, a named context), or None if it is not there."""
        ...


@runtime_checkable
class LayoutBridge(Protocol):
    """The talent of a bridge to look into OCI layouts that the caller lends."""

    def layout_config(self, name: str, store: str, digest: Digest, platform: Platform) -> ResolvedImage:
        """The image of `digest` in the content lent as `store`; `name` is the context's, for messages.

        Raises:
            NotFound: no such content, no such image, or none for `platform`.
        """
        ...


@runtime_checkable
class TimeBridge(Protocol):
    """The talent of a bridge to find out when what lies elsewhere was made."""

    def source_time(self, op: SourceOp) -> int | None:
        """Seconds since 1970 of what a git or http source gives now; None when nothing tells.

        Raises:
            KnarrError: it cannot be reached, or is not what is pinned.
        """
        ...
