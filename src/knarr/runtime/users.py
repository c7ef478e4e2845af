"""Users and groups by the image's own /etc/passwd and /etc/group.

The files are an image's and may be anything: they are found inside the root
(symlinks included), must be regular files, and are read up to 10 MiB, the bound
BuildKit sets. Malformed lines are skipped, as every libc does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from knarr.errors import KnarrError, NotFound
from knarr.paths import inside
from knarr.record import record

_MOST_BYTES = 10 << 20
_MAX_ID = 2**32 - 2  # 2**32 - 1 is "no change" to chown(2)


@record
class User:
    """Who a process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary, without gid
    home: str


def resolve_user(rootfs: Path | str, text: str) -> User:
    """Who `USER text` is: `name`, `uid`, `name:group`, `uid:gid`; empty is root.

    A number needs no entry. A user without `:group` has the groups that
    /etc/group lists under its name; with one, exactly that group (as Docker).

    Raises:
        NotFound: a name is not in the image's files.
    """
    name, _, group = text.partition(":")
    number = _number(name or "0")
    entry = _passwd(rootfs, name or "0", number)
    if entry is None and number is None:
        raise _unknown("user", name, "/etc/passwd")
    uid, gid, home, login = entry or (number or 0, 0, "/", "")
    if group:
        return User(uid, lookup_group(rootfs, group), (), home)
    groups = tuple(sorted(_memberships(rootfs, login) - {gid})) if login else ()
    return User(uid, gid, groups, home)


def lookup_user(rootfs: Path | str, name: str) -> tuple[int, int]:
    """The uid of a name and the gid of its entry, as `--chown` takes them; of a number, the number twice.

    Raises:
        NotFound: the name is not in the image's /etc/passwd.
    """
    number = _number(name)
    if number is not None:
        return number, number
    entry = _passwd(rootfs, name, None)
    if entry is None:
        raise _unknown("user", name, "/etc/passwd")
    return entry[:2]


def lookup_group(rootfs: Path | str, name: str) -> int:
    """The gid of a name or a number.

    Raises:
        NotFound: the name is not in the image's /etc/group.
    """
    number = _number(name)
    if number is not None:
        return number
    for fields in _lines(rootfs, "/etc/group", 3):
        gid = _number(fields[2])
        if fields[0] == name and gid is not None:
            return gid
    raise _unknown("group", name, "/etc/group")


def has_user(rootfs: Path | str, uid: int) -> bool:
    """Whether the image's /etc/passwd has the number."""
    return any(_number(fields[2]) == uid for fields in _lines(rootfs, "/etc/passwd", 4))


def has_group(rootfs: Path | str, gid: int) -> bool:
    """Whether the image's /etc/group has the number."""
    return any(_number(fields[2]) == gid for fields in _lines(rootfs, "/etc/group", 3))


def _passwd(rootfs: Path | str, name: str, number: int | None) -> tuple[int, int, str, str] | None:
    """The first entry with this name or number: (uid, gid, home, login)."""
    for fields in _lines(rootfs, "/etc/passwd", 4):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is None or gid is None or not (fields[0] == name or uid == number):
            continue
        home = fields[5] if len(fields) > 5 and fields[5] else "/"
        return uid, gid, home, fields[0]
    return None


def _memberships(rootfs: Path | str, login: str) -> set[int]:
    found = set()
    for fields in _lines(rootfs, "/etc/group", 4):
        gid = _number(fields[2])
        if gid is not None and login in fields[3].split(","):
            found.add(gid)
    return found


def _lines(rootfs: Path | str, path: str, least: int) -> Iterator[list[str]]:
    for line in _read(rootfs, path).decode(errors="surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and fields[0] and not fields[0].startswith(("#", "+", "-")):
            yield fields


def _read(rootfs: Path | str, path: str) -> bytes:
    """The file's bytes; empty when the image has none."""
    real = inside(rootfs, path)
    try:
        # Not following and not blocking: what the path was resolved to may be a pipe.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise KnarrError(f"{path} of the image cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KnarrError(f"{path} of the image is not a regular file")
        data = _read_most(descriptor)
    finally:
        os.close(descriptor)
    if len(data) > _MOST_BYTES:
        raise KnarrError(f"{path} of the image is larger than {_MOST_BYTES >> 20} MiB")
    return data


def _read_most(descriptor: int) -> bytes:
    data = b""
    while len(data) <= _MOST_BYTES and (part := os.read(descriptor, _MOST_BYTES + 1 - len(data))):
        data += part
    return data


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    value = int(text) if len(text) < 12 else _MAX_ID + 1
    if value > _MAX_ID:
        raise KnarrError(f"{text} is not a user or group number", hint=f"numbers go up to {_MAX_ID}")
    return value


def _unknown(kind: str, name: str, file: str) -> NotFound:
    return NotFound(
        f"{kind} {name}: not in the image's {file}",
        hint=f"create it in an earlier RUN ({'useradd' if kind == 'user' else 'groupadd'}), or use a number",
    )
