"""Annotations by option: `annotation-index.KEY`, `annotation-manifest[linux/arm64].KEY` and the like.

Four places can have them: the index, an image's manifest, and the descriptors of
both. Spec: BuildKit docs/annotations.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from knarr.errors import UsageError
from knarr.record import record
from knarr.spec.platform import Platform

INDEX, INDEX_DESCRIPTOR, MANIFEST, MANIFEST_DESCRIPTOR = "index", "index-descriptor", "manifest", "manifest-descriptor"
LEVELS = (INDEX, INDEX_DESCRIPTOR, MANIFEST, MANIFEST_DESCRIPTOR)
_KEY = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/.-]+)\])?\.(\S+)")


@record
class Annotation:
    """Where an annotation goes, and its key. `platform` None: to all of them."""

    level: str
    platform: Platform | None
    key: str


def parse_key(option: str) -> Annotation | None:
    """The place an option names, or None when it is not about annotations.

    Raises:
        UsageError: it is, but there is no such place.
    """
    match = _KEY.fullmatch(option)
    if match is None:
        return None
    level = match[1] or MANIFEST
    if level not in LEVELS:
        raise UsageError(f"{option}: {level!r} is not a place for annotations", hint=f"places are: {', '.join(LEVELS)}")
    return Annotation(level, Platform.parse(match[2]) if match[2] else None, match[3])


def at(annotations: Iterable[tuple[Annotation, str]], level: str, platform: Platform | None = None) -> dict[str, str]:
    """The annotations of one place; those given for the very platform win.

    An index belongs to all platforms: whichever was named with it, it has them.
    """
    of_index = level in (INDEX, INDEX_DESCRIPTOR)
    general, own = {}, {}
    for annotation, value in annotations:
        if annotation.level != level:
            continue
        if annotation.platform is None or of_index:
            general[annotation.key] = value
        elif annotation.platform == platform:
            own[annotation.key] = value
    return general | own


def check(annotations: Iterable[tuple[Annotation, str]], platforms: Sequence[Platform], *, is_index: bool) -> None:
    """Refuse annotations that have no place in the result.

    Raises:
        UsageError
    """
    for annotation, _ in annotations:
        if annotation.platform is not None and annotation.platform not in platforms:
            raise UsageError(
                f"annotation {annotation.key}: {annotation.platform} is not built",
                hint=f"built are: {', '.join(map(str, platforms))}",
            )
        if not is_index and annotation.level in (INDEX, INDEX_DESCRIPTOR):
            raise UsageError(
                f"annotation {annotation.key}: a build for one platform has no index",
                hint="annotate the manifest, or set BUILDKIT_MULTI_PLATFORM=1",
            )
