"""The source op `local://…`: a directory that the caller lends, read where it is.

Nothing is copied: file ops read the directory in place, content hashes are
remembered by inode and time, and only a RUN that mounts it gets a copy. Owners
do not count, as with a client that sends its context to a builder.
"""

from __future__ import annotations

import json
import os
import time

from knarr import patterns
from knarr.errors import ContentError, UsageError
from knarr.llb.ops import SourceOp
from knarr.ops.copytree import Tree
from knarr.progress import Sink, Status
from knarr.session.session import Sender, Sent, Session, Wanted

SCHEME = "local://"
_TELL_NS = 100_000_000


class Transfer:
    """Tells progress how much of a directory has come; says nothing when nothing has to."""

    def __init__(self, sink: Sink, vertex: str, identifier: str) -> None:
        self._sink, self._vertex = sink, vertex
        self._name = f"transferring {identifier.removeprefix(SCHEME)}:"
        self._started_ns = self._told_ns = time.time_ns()

    def sent(self, size: int, is_all: bool) -> None:
        now = time.time_ns()
        if is_all or now - self._told_ns >= _TELL_NS:
            self._told_ns = now
            self._sink.send(Status(self._vertex, self._name, size, 0, is_all, self._started_ns, now))


def lent_tree(session: Session, op: SourceOp, *, sent: Sent | None = None) -> Tree:
    """The directory behind `op`, with its ignore patterns. `sent` is told what comes when it is not on this machine.

    Raises:
        UsageError: the caller lent no directory of this name, or it is not there.
        KnarrError: its files could not be sent.
    """
    wanted = wanted_by(op)
    root = os.path.realpath(session.files(wanted, sent=sent))
    if not os.path.isdir(root):
        raise UsageError(f"{root}: not a directory", hint="give a directory as the build context")
    hidden = patterns.Matcher(wanted.exclude) if wanted.exclude else None
    shown = "build context" if wanted.name == "context" else f"context {wanted.name}"
    # What was sent has the targets of symlinks as well, which the names that are followed do not say.
    only = () if isinstance(session, Sender) and session.sends else wanted.follow
    return Tree(root, hidden, zero_owner=True, only=only, name=shown)


def wanted_by(op: SourceOp) -> Wanted:
    """What `op` wants of the caller.

    Raises:
        ContentError: an attribute of it cannot be read.
    """
    attrs = op.attrs
    return Wanted(
        op.identifier.removeprefix(SCHEME),
        include=_list(op, "local.includepattern"),
        exclude=_list(op, "local.excludepatterns"),
        follow=_list(op, "local.followpaths"),
        hint=attrs.get("local.sharedkeyhint", ""),
        anew=attrs.get("local.differ") == "none",
        described=attrs.get("local.metadatatransfer", "").lower() in ("1", "t", "true"),
        contents=_list(op, "local.metadatatransferexclude"),
        session=attrs.get("local.session", ""),
    )


def _list(op: SourceOp, attribute: str) -> tuple[str, ...]:
    try:
        values = json.loads(op.attrs.get(attribute) or "[]") or ()
    except ValueError:
        values = None
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise ContentError(f"{op.identifier}: {attribute} is not a list of texts")
    return tuple(values)
