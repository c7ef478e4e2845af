"""What is added to a failure by those who know the whole build: where, in which stage and platform, and a way out.

The parts raise what they know; nothing here changes a message that a part has written.
"""

from __future__ import annotations

import errno
import os
import re

from knarr.errors import Excerpt, Hidden, KnarrError, NotFound, StepFailed
from knarr.frontend.request import FrontendRequest
from knarr.llb.ops import Vertex
from knarr.spec.platform import host_platform

_PLACE = re.compile(r"\[(?:(?P<platform>\S+/\S+) )?(?:(?P<stage>\S+) )?\d+/\d+\] ")  # as BuildKit's frontend writes it
_UPWARDS = re.compile(r"(?:^|[\s\"'=])(?:\.?/)*\.\.(?:/|[\s\"']|$)")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NEARLY_FULL_BYTES = 1 << 20
_ROOM = "free some space: `knarr prune` removes what no build needs, or set KNARR_ROOT to a place on a larger disk"


def translated(error: OSError) -> KnarrError:
    """A failure of the operating system that no part has translated."""
    place = f"{error.filename}: " if error.filename else ""
    found = KnarrError(f"{place}{error.strerror or error}")
    found.__cause__ = error
    return found


def stage_of(step: str) -> str:
    """The stage in the name of a step, or nothing."""
    place = _PLACE.match(step)
    return (place["stage"] or "") if place else ""


def with_step(error: KnarrError, vertex: Vertex, step: str) -> KnarrError:
    """Add the place in the Dockerfile, the stage, and the platform where it is not plainly this machine's."""
    place = _PLACE.match(step)
    if place is not None:
        error.with_context(stage=place["stage"] or "")
        foreign = vertex.platform is not None and vertex.platform != host_platform()
        if place["platform"] or foreign:
            error.with_context(platform=place["platform"] or str(vertex.platform))
    if isinstance(error, NotFound) and not error.hint and _UPWARDS.search(step):
        error.hint = "`..` does not lead out of the build context: choose a wider one, or add one with --build-context"
    return error.with_context(span=vertex.spans[0] if vertex.spans else None)


def with_request(error: KnarrError, request: FrontendRequest, root: str) -> KnarrError:
    """Add the text of the Dockerfile, the line of the ignore file, and what the disk says."""
    if error.span is not None and error.excerpt is None and error.span.file == request.filename:
        error.excerpt = Excerpt(tuple(request.dockerfile.decode(errors="replace").splitlines()))
    if isinstance(error, Hidden):
        line = _line_of(error.pattern, request.dockerignore or b"")
        if line:
            error.hint = f"{request.dockerignore_name}:{line} leaves it out: {error.pattern}"
    if _is_full(error, root):
        error.with_context(hint=_ROOM)
    return error


def _line_of(pattern: str, ignore: bytes) -> int:
    """The last line of an ignore file that says `pattern`; 0 when none does."""
    from knarr.patterns import parse_ignore

    lines = ignore.split(b"\n")
    return next((number for number in range(len(lines), 0, -1) if pattern in parse_ignore(lines[number - 1])), 0)


def _is_full(error: KnarrError, root: str) -> bool:
    """Whether a full disk is what failed; of a RUN that only said so on its output, the disk is asked."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__
    if not isinstance(error, StepFailed):
        return False
    disk = os.statvfs(root)
    return disk.f_bavail * disk.f_frsize < _NEARLY_FULL_BYTES or (disk.f_files > 0 and disk.f_favail == 0)
