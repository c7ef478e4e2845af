"""Which tags of a repository are wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from knarr.errors import UsageError
from knarr.record import record
from knarr.spec.referrers import is_digest_tag, is_fallback_tag
from knarr.sync.version import Range, Version


@record
class TagFilter:
    """Conditions that all have to hold; one that is empty always does."""

    include: tuple[str, ...] = ()  # wildcards, one of which has to match
    exclude: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()  # regular expressions for the whole tag
    deny: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()  # ranges, one of which has to have it; a tag that is no version is out
    newest: int = 0  # only so many versions, the highest; 0: all

    def check(self, where: str) -> None:
        """Read every expression once. `where` is for messages.

        Raises:
            UsageError: one is malformed.
        """
        for pattern in (*self.allow, *self.deny):
            try:
                re.compile(pattern)
            except re.error as error:
                raise UsageError(f"{where}: {pattern!r} is not a regular expression: {error}") from error
        for text in self.versions:
            try:
                Range(text)
            except UsageError as error:
                raise UsageError(f"{where}: {error.message}", hint=error.hint) from error

    def choose(self, tags: Iterable[str]) -> list[str]:
        """Those of `tags` that are wanted, in their order."""
        ranges = [Range(text) for text in self.versions]
        found = [tag for tag in tags if self._takes(tag, ranges)]
        if not self.newest:
            return found
        versions = {tag: version for tag in found if (version := Version.parse(tag)) is not None}
        top = set(sorted(versions, key=lambda tag: versions[tag], reverse=True)[: self.newest])
        return [tag for tag in found if tag in top]

    def _takes(self, tag: str, ranges: Sequence[Range]) -> bool:
        if self.include and not any(fnmatchcase(tag, pattern) for pattern in self.include):
            return False
        if any(fnmatchcase(tag, pattern) for pattern in self.exclude):
            return False
        # As regsync: anchored by hand, so `a|b` is "begins with a, or ends in b".
        if self.allow and not any(re.search(f"^{pattern}$", tag) for pattern in self.allow):
            return False
        if any(re.search(f"^{pattern}$", tag) for pattern in self.deny):
            return False
        if not ranges:
            return True
        version = Version.parse(tag)
        return version is not None and any(one.has(version) for one in ranges)


def choose(filters: Sequence[TagFilter], tags: Sequence[str]) -> list[str]:
    """The tags that any of `filters` takes (none: all). What hangs on digests goes with its image, and is left out."""
    plain = [tag for tag in tags if not is_fallback_tag(tag) and not is_digest_tag(tag)]
    if not filters:
        return plain
    wanted = {tag for one in filters for tag in one.choose(plain)}
    return [tag for tag in plain if tag in wanted]
