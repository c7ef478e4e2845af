"""Content descriptors.

Spec: image-spec v1.1, descriptor.md.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Any

from knarr.errors import ContentError
from knarr.record import field, record, replace
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

_KNOWN = frozenset(("mediaType", "digest", "size", "platform", "annotations", "artifactType", "urls", "data"))


@record
class Descriptor:
    """What a blob is and how to know it."""

    media_type: str
    digest: Digest
    size: int  # bytes
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""
    urls: tuple[str, ...] = ()
    data: bytes | None = None  # the content itself, embedded
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)  # newer specs' members, written back as read

    @classmethod
    def from_json(cls, data: Any) -> Descriptor:
        """Decode a descriptor object.

        Raises:
            ContentError: not an object, or without a valid digest and size.
        """
        if not isinstance(data, dict):
            raise ContentError(f"a descriptor must be an object, not {type(data).__name__}")
        size = data.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ContentError(f"a descriptor's size must be a non-negative integer, not {size!r}")
        written = data.get("platform")
        platform = Platform.from_json(written) if isinstance(written, dict) else None
        extra = {k: v for k, v in data.items() if k not in _KNOWN}
        if platform is not None and platform.to_json() != written:
            # Another spelling of the same (arm64 with its variant v8), or members of newer specs: written back as read.
            extra["platform"] = written
        embedded = data.get("data")
        return cls(
            str(data.get("mediaType", "")),
            Digest.parse(str(data.get("digest", ""))),
            size,
            platform,
            {str(k): str(v) for k, v in (data.get("annotations") or {}).items()},
            str(data.get("artifactType") or ""),
            tuple(data.get("urls") or ()),
            base64.b64decode(embedded) if isinstance(embedded, str) else None,
            extra,
        )

    def to_json(self) -> dict[str, Any]:
        """The descriptor object, members in the order Go's image-spec writes them."""
        data: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.urls:
            data["urls"] = list(self.urls)
        if self.annotations:
            data["annotations"] = dict(sorted(self.annotations.items()))
        if self.data is not None:
            data["data"] = base64.b64encode(self.data).decode()
        if self.platform is not None:
            data["platform"] = self.platform.to_json()
        if self.artifact_type:
            data["artifactType"] = self.artifact_type
        data.update(self.extra)
        return data

    def with_annotations(self, more: Mapping[str, str]) -> Descriptor:
        return replace(self, annotations={**self.annotations, **more})

    def bare(self) -> Descriptor:
        """Only media type, digest and size: what identifies the content wherever it stands."""
        return Descriptor(self.media_type, self.digest, self.size)

    def with_only(self, annotations: Collection[str]) -> Descriptor:
        """Like `bare`, and with those of its annotations that are named."""
        return replace(self.bare(), annotations={k: v for k, v in self.annotations.items() if k in annotations})
