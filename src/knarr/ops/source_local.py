"""The source op `local://…`: a directory that the caller lends, read where it is.

Nothing is copied: file ops read the directory in place, content hashes are
remembered by inode and time, and only a RUN that mounts it gets a copy. Owners
do not count, as with a client that sends its context to a builder.
"""

from __future__ import annotations

import json
import os

from knarr import patterns
from knarr.errors import UsageError
from knarr.llb.ops import SourceOp
from knarr.ops.copytree import Tree
from knarr.session.session import Session

SCHEME = "local://"


def lent_tree(session: Session, op: SourceOp) -> Tree:
    """The directory behind `op`, with its ignore patterns.

    Raises:
        UsageError: the caller lent no directory of this name, or it is not there.
    """
    name = op.identifier.removeprefix(SCHEME)
    root = os.path.realpath(session.directory(name))
    if not os.path.isdir(root):
        raise UsageError(f"{root}: not a directory", hint="give a directory as the build context")
    excludes = _list(op, "local.excludepatterns")
    hidden = patterns.Matcher(excludes) if excludes else None
    shown = "build context" if name == "context" else f"context {name}"
    return Tree(root, hidden, zero_owner=True, only=_list(op, "local.followpaths"), name=shown)


def _list(op: SourceOp, attribute: str) -> tuple[str, ...]:
    return tuple(json.loads(op.attrs.get(attribute) or "[]"))
