"""OCI layouts on this machine as named contexts: `--build-context NAME=oci-layout://PATH[:TAG][@DIGEST]`.

What a build is told is a digest; the tag is looked up here, as buildx does it, and
the directory is lent under an ID of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import KnarrError, NotFound, UsageError
from knarr.record import record
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.session.session import LentContent

SCHEME = "oci-layout://"
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)


@record
class LayoutContext:
    """An image of a layout, as the user named it; `digest` goes before `tag`."""

    path: Path
    tag: str = ""
    digest: Digest | None = None

    @property
    def store(self) -> str:
        """The ID that the directory is lent under."""
        import hashlib

        return "layout-" + hashlib.sha256(str(self.path).encode()).hexdigest()[:16]


def read_context(text: str, cwd: str) -> LayoutContext:
    """What `oci-layout://…` names. Nothing is opened.

    Raises:
        ContentError: the digest is none.
    """
    path, at, digest = text.removeprefix(SCHEME).rpartition("@")
    if not at or ":" not in digest or "/" in digest:
        path, digest = text.removeprefix(SCHEME), ""
    shorter, colon, tag = path.rpartition(":")
    if colon and _TAG.fullmatch(tag):
        path = shorter
    else:
        tag = "" if digest else "latest"
    return LayoutContext(Path(cwd, path), tag, Digest.parse(digest) if digest else None)


def lent(layouts: Mapping[str, LayoutContext]) -> dict[str, LentContent]:
    """The layouts as content, by the IDs they are lent under."""
    from knarr.image.layout import Layout

    return {context.store: Layout(context.path) for context in layouts.values()}


def told(layouts: Mapping[str, LayoutContext]) -> dict[str, str]:
    """What the frontend is told of each context: the ID of its layout, and a digest.

    Raises:
        UsageError: there is no such layout, or no such image in it.
    """
    return {name: f"{SCHEME}{context.store}@{_pinned(name, context)}" for name, context in layouts.items()}


def _pinned(name: str, context: LayoutContext) -> Digest:
    from knarr.image.layout import Layout

    try:
        layout = Layout.at(context.path)
        if context.digest is not None:
            return context.digest
        return _tagged(layout.entries_by_tag(), context)
    except (KnarrError, OSError) as error:
        words = error.message if isinstance(error, KnarrError) else f"{context.path}: {error.strerror}"
        hint = error.hint if isinstance(error, KnarrError) else ""
        raise UsageError(f"--build-context {name}: {words}", hint=hint) from error


def _tagged(entries: Mapping[str, Digest], context: LayoutContext) -> Digest:
    if context.tag in entries:
        return entries[context.tag]
    distinct = set(entries.values())
    if len(distinct) == 1:  # the only one is meant, whatever it is called
        return distinct.pop()
    known = ", ".join(sorted(name for name in entries if name)) or "none"
    raise NotFound(f"{context.tag} is not in the layout {context.path}", hint=f"tags there: {known}")
