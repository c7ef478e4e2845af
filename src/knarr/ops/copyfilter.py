"""Which entries below a copied directory are copied: what the patterns leave, and what the source shows."""

from __future__ import annotations

from collections.abc import Sequence

from knarr import patterns


class CopyFilter:
    """Judges paths relative to the copied directory, which is at `base` in its tree; `hidden` judges by that place."""

    def __init__(
        self, base: str, hidden: patterns.Matcher | None, include: Sequence[str], exclude: Sequence[str]
    ) -> None:
        self._prefix = base.strip("/") + "/" if base.strip("/") else ""
        self._hidden = hidden
        self._include = patterns.Matcher(include) if include else None
        self._exclude = patterns.Matcher(exclude) if exclude else None
        self.leaves_out = bool(hidden or include or exclude)  # False: everything is kept, nobody need be asked

    def keeps(self, path: str) -> bool:
        """Whether `path` itself is copied."""
        return self.selects(path) and (self._hidden is None or not self._hidden.matches(self._prefix + path))

    def selects(self, path: str) -> bool:
        """Whether the patterns take `path`, which the source may yet hide."""
        if self._include is not None and not self._include.matches(path):
            return False
        return self._exclude is None or not self._exclude.matches(path)

    def may_keep_below(self, path: str) -> bool:
        """Whether something below a directory that is not kept may be."""
        hidden, exclude = self._hidden, self._exclude
        if hidden is not None:
            inner = self._prefix + path
            if hidden.matches(inner) and not hidden.may_contain_match(inner):
                return False
        return exclude is None or not exclude.matches(path) or exclude.may_contain_match(path)
