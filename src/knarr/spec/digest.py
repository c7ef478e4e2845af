"""Content digests: `algorithm:hex`, the name of a blob.

Spec: image-spec v1.1, descriptor.md, "Digests".
"""

from __future__ import annotations

import re

from knarr.errors import ContentError

_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile("[0-9a-f]+")
_FORM = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")


class Digest(str):
    """A valid digest. Make one with `parse` (checked) or `of` (computed); compares as its text."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest `text` names.

        Raises:
            ContentError: malformed, or an algorithm that cannot be verified here.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ContentError(f"{text!r} is not a digest", hint="a digest looks like sha256:<64 hex digits>")
        algorithm, value = match.groups()
        length = _HEX_LENGTH.get(algorithm)
        if length is None:
            raise ContentError(f"digest algorithm {algorithm!r} is not supported", hint="use sha256 or sha512")
        if len(value) != length or _HEX.fullmatch(value) is None:
            raise ContentError(f"{text!r} is not a {algorithm} digest of {length} lower-case hex digits")
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The sha256 digest of `data`."""
        import hashlib  # 2 ms: who only compares digests does not pay it

        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]
