"""A tree with one file in it: what a URL gave, or a blob of a registry; and how a definition wants it to be.

Spec: BuildKit's attributes http.filename, http.perm, http.uid and http.gid: mode 0600 and owner 0:0 unless said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from knarr import virtual
from knarr.errors import UsageError
from knarr.record import record

if TYPE_CHECKING:
    from knarr.cache.record import RecordId
    from knarr.ops.world import World
    from knarr.spec.digest import Digest

_MODE = 0o600


@record
class Look:
    """How the file is to be; `perm` 0: as it is usual."""

    filename: str = ""
    perm: int = 0
    uid: int = 0
    gid: int = 0

    @property
    def mode(self) -> int:
        return self.perm or _MODE


def look_of(attrs: Mapping[str, str], where: str) -> Look:
    """What a definition says of its file; `where` is for messages.

    Raises:
        UsageError: a number is none.
    """
    perm, uid, gid = (_number(attrs.get(f"http.{name}", ""), where) for name in ("perm", "uid", "gid"))
    return Look(attrs.get("http.filename", ""), perm, uid, gid)


def safe_name(offered: str, otherwise: str) -> str:
    """A file's name out of what somebody offers as one; `otherwise` where nothing is left."""
    name = os.path.basename(offered.rstrip("/")).replace("\0", "")
    return otherwise if name in ("", ".", "..") else name


def write(
    world: World, look: Look, name: str, digest: Digest, size: int, modified_s: int, record: RecordId
) -> RecordId:
    """Commit a tree with the blob `digest` of the store as the file `name`."""
    from knarr.ops.copyfile import copy_file

    with world.trees.active(None) as active:
        target = os.path.join(active.root, name)
        copy_file(os.fspath(world.store.path(digest)), target, size)
        if look.uid or look.gid:
            virtual.chown(target, look.uid, look.gid)
        os.chmod(target, look.mode & 0o7777)
        os.utime(target, (modified_s, modified_s))
        return active.commit(record)


def _number(text: str, where: str) -> int:
    """As Go reads it: 0600 and 0o600 are octal."""
    try:
        return int(text, 8 if text[:1] == "0" and text.isdigit() else 0) if text else 0
    except ValueError:
        raise UsageError(f"{where}: {text!r} is not a number") from None
