"""What a directory says of an entry, as bytes of fixed size: the unit of the content hash.

What counts is what BuildKit's content hash counts: type, mode, owner, device
numbers, link target, bytes, and extended attributes other than `system.*` and
`security.*` (but `security.capability` counts). Times do not.

    node = mode, uid, gid, device | body
    body = sha256 of the bytes | of the link target | of the children: (length of name, name, node) by name
           wrapped in blake2s together with the attributes, if there are any

Lengths stand before all that varies, the type is in the mode, and the two hash
functions keep bodies with attributes apart from those without, so that no two
different trees are hashed as the same bytes.
"""

from __future__ import annotations

import os
import stat
import struct
from hashlib import blake2s

_HEAD = struct.Struct(">IIIQ")
_LENGTH = struct.Struct(">Q")
NO_BYTES = bytes(32)  # the body of a device, a pipe, a socket


def head(found: os.stat_result, *, zero_owner: bool) -> bytes:
    """The first part of a node; its body follows."""
    mode = found.st_mode
    device = found.st_rdev if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else 0
    if zero_owner:
        return _HEAD.pack(mode, 0, 0, device)
    return _HEAD.pack(mode, found.st_uid, found.st_gid, device)


def body_of(node: bytes) -> bytes:
    """A node without mode, owner and device."""
    return node[_HEAD.size :]


def named(name: str) -> bytes:
    """A name, as it stands before its node."""
    raw = os.fsencode(name)
    return _LENGTH.pack(len(raw)) + raw


def with_attributes(target: str | int, body: bytes) -> bytes:
    """`body` together with the extended attributes of a path (not followed) or a descriptor."""
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError:  # the file system has none
        return body
    counted = sorted(name for name in names if _counts(name))
    if not counted:
        return body
    digest = blake2s(body)
    for name in counted:
        value = os.getxattr(target, name, follow_symlinks=follow)
        digest.update(named(name) + _LENGTH.pack(len(value)) + value)
    return digest.digest()


def _counts(attribute: str) -> bool:
    if attribute == "security.capability":
        return True
    return not attribute.startswith(("security.", "system.", "trusted.overlay.", "user.overlay."))


def describe(node: bytes) -> str:
    """A node for people: `mode owner digest`, with `major:minor` of a device before the digest."""
    mode, uid, gid, device = _HEAD.unpack_from(node)
    place = f" {os.major(device)}:{os.minor(device)}" if device else ""
    return f"{mode:06o} {uid}:{gid}{place} {body_of(node).hex()}"
