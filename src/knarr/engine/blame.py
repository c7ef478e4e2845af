"""What is added to a failure by those who know the whole build: where, in which stage and platform, and a way out.

The parts raise what they know; nothing here changes a message that a part has written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from knarr import disk
from knarr.errors import Excerpt, Hidden, KnarrError, NotFound
from knarr.frontend.request import FrontendRequest
from knarr.llb.ops import Vertex
from knarr.solver.explain import place_of
from knarr.spec.platform import host_platform

_UPWARDS = re.compile(r"(?:^|[\s\"'=])(?:\.?/)*\.\.(?:/|[\s\"']|$)")


def translated(error: OSError) -> KnarrError:
    """A failure of the operating system that no part has translated."""
    place = f"{error.filename}: " if error.filename else ""
    found = KnarrError(f"{place}{error.strerror or error}")
    found.__cause__ = error
    return found


def with_step(error: KnarrError, vertex: Vertex, step: str) -> KnarrError:
    """Add the place in the Dockerfile, the stage, and the platform where it is not plainly this machine's."""
    platform, stage, text = place_of(step)
    if text != step:
        error.with_context(stage=stage)
        foreign = vertex.platform is not None and vertex.platform != host_platform()
        if platform or foreign:
            error.with_context(platform=platform or str(vertex.platform))
    if isinstance(error, NotFound) and not error.hint and _UPWARDS.search(step):
        error.hint = "`..` does not lead out of the build context: choose a wider one, or add one with --build-context"
    if error.span is None and vertex.spans:
        error.further = tuple((span, None) for span in vertex.spans[1:])
    return error.with_context(span=vertex.spans[0] if vertex.spans else None)


def with_request(error: KnarrError, request: FrontendRequest) -> KnarrError:
    """Add the text of the Dockerfile, the line of the ignore file, and what the disk says."""
    if error.span is not None and error.excerpt is None and error.span.file == request.filename:
        error.excerpt = Excerpt(tuple(request.dockerfile.decode(errors="replace").splitlines()))
    if isinstance(error, Hidden):
        line = _line_of(error.pattern, request.dockerignore or b"")
        if line:
            error.hint = f"{request.dockerignore_name}:{line} leaves it out: {error.pattern}"
    if _lacks_room(error):
        error.with_context(hint=disk.ROOM)
    return error


def with_empty_names(error: NotFound, hints: Mapping[int, str]) -> NotFound:
    """Add the sentence about a variable that left a gap in the path; `hints` are `FrontendResult.empty_names`."""
    said = hints.get(error.span.first, "") if error.span is not None else ""
    error.hint = "; ".join(filter(None, (said, error.hint)))
    return error


def _line_of(pattern: str, ignore: bytes) -> int:
    """The last line of an ignore file that says `pattern`; 0 when none does."""
    from knarr.patterns import parse_ignore

    lines = ignore.split(b"\n")
    return next((number for number in range(len(lines), 0, -1) if pattern in parse_ignore(lines[number - 1])), 0)


def _lacks_room(error: KnarrError) -> bool:
    """Whether a full disk is what failed, somewhere down the line."""
    cause: BaseException | None = error
    while cause is not None:
        if disk.lacks_room(cause):
            return True
        cause = cause.__cause__
    return False
