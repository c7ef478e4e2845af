"""When the content of a source was made: what `SOURCE_DATE_EPOCH=context` and its like go by.

Spec: BuildKit's frontend/dockerfile/dockerfile2llb/epoch.go at v0.33.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from knarr.errors import ContentError
from knarr.llb.ops import SourceOp

if TYPE_CHECKING:
    from knarr.ops.fetched import Reach
    from knarr.streams import Readable


def source_time(reach: Reach, op: SourceOp) -> int | None:
    """Seconds since 1970: of the commit, of the server's `Last-Modified`, or of the youngest file in the archive.

    None when nothing tells: a directory of the caller, an image, a file of which the server says nothing.

    Raises:
        KnarrError: the source cannot be reached, or is not what is pinned.
    """
    scheme = op.identifier.partition("://")[0]
    if scheme == "git":
        return _of_commit(reach, op)
    return _of_file(reach, op) if scheme in ("http", "https") else None


def _of_commit(reach: Reach, op: SourceOp) -> int:
    from knarr.ops import gitcheckout, source_git
    from knarr.ops.gitprogram import Place

    source = source_git.parse(op)
    git = source_git.git_for(reach, source)
    tip = source_git.tip_of(reach, git, source)
    mirror = Place(str(gitcheckout.fetch(reach.settings.root, git, tip)))
    return int(git.run("log", "-1", "--format=%ct", tip.commit, at=mirror))


def _of_file(reach: Reach, op: SourceOp) -> int | None:
    from knarr.ops import source_http
    from knarr.remote.fetchurl import seconds_of

    known = source_http.ask(reach, source_http.parse(op), op.identifier, anew=False)
    seconds = seconds_of(known.modified)
    if seconds is not None:
        return seconds
    with open(reach.store.path(known.digest), "rb") as file:
        return _youngest(file)


def _youngest(file: Readable) -> int | None:
    """The latest time of a regular file in an archive; None when it is no archive or has none."""
    from knarr.layer.decompress import open_compressed
    from knarr.layer.tar import REGULAR
    from knarr.layer.tar_read import Reader

    try:
        times = [entry.mtime_ns // 10**9 for entry in Reader(open_compressed(file)) if entry.type == REGULAR]
    except ContentError:
        return None
    return max(times, default=None)
