"""Files as a tar stream between two trees, named as `cp` names them.

What is packed is called `x` in the stream, and `x/…` what lies in it: only who unpacks knows
what the target is called, since that depends on what is there.
"""

from __future__ import annotations

import os
import tarfile
from typing import IO

from knarr.errors import KnarrError, NotFound

_NAME = "x"

# Names of owners are not looked up: in a container's tree that would load its own libraries (as CVE-2019-14271).
tarfile.pwd = tarfile.grp = None  # type: ignore[attr-defined]  # as on machines that have no such modules


def pack(path: str, out: IO[bytes], *, follow: bool) -> None:
    """Write the file or the directory at `path`; a symlink as it is, unless `follow`.

    Raises:
        NotFound: there is nothing.
    """
    if follow:
        path = os.path.realpath(path)
    if not os.path.lexists(path):
        raise NotFound(f"{path}: there is no such file")
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        tar.add(path.rstrip("/") or "/", arcname=_NAME)


def unpack(
    stream: IO[bytes], target: str, name: str, *, contents: bool, owner: tuple[int, int] | None, trusted: bool
) -> None:
    """Write what `pack` packed to `target`: as that, or in it as `name` if it is a directory.

    With `contents` a directory's own are put there. `owner` is given to everything; None: owners stay.
    What is not `trusted` may not leave the target's directory.

    Raises:
        KnarrError: the target cannot be that.
    """
    with _opened(stream) as tar:
        first = tar.next()
        if first is None:
            raise KnarrError("nothing arrived")
        goal = _goal(target, name, is_directory=first.isdir(), contents=contents)
        base, last = os.path.split(goal)
        member: tarfile.TarInfo | None = first
        while member is not None:
            member.name = last + member.name[len(_NAME) :] if last else member.name[len(_NAME) :].lstrip("/") or "."
            if member.islnk():
                member.linkname = last + member.linkname[len(_NAME) :]
            if owner is not None:
                member.uid, member.gid = owner
            member.uname = member.gname = ""
            _extract(tar, member, base or "/", trusted=trusted)
            member = tar.next()


def _opened(stream: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r|")
    except tarfile.TarError:
        raise KnarrError("nothing arrived") from None  # who packs says why


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, base: str, *, trusted: bool) -> None:
    """Write one entry below `base`, over what is there already."""
    try:
        place = os.path.join(base, member.name)
        top = os.path.realpath(base)
        if not trusted and os.path.commonpath((top, os.path.realpath(os.path.dirname(place)))) != top:
            raise KnarrError(f"{member.name} is not copied: a link on the way leads out of {base}")
        if os.path.islink(place) or (os.path.lexists(place) and not os.path.isdir(place)):
            os.unlink(place)  # before the look below, which would follow it
        wanted = member if trusted else tarfile.tar_filter(member, base)
        tar.extract(wanted, base, numeric_owner=True, filter="fully_trusted")
    except tarfile.TarError as error:
        raise KnarrError(f"{member.name} is not copied: {error}") from error
    except OSError as error:
        raise KnarrError(f"{error.filename or member.name}: {error.strerror or error}") from error


def _goal(target: str, name: str, *, is_directory: bool, contents: bool) -> str:
    path = os.path.realpath(target)  # a link to a directory stays a link
    if os.path.isdir(path):
        return path if contents or (is_directory and not name) else os.path.join(path, name)
    if os.path.lexists(path) and is_directory:
        raise KnarrError(f"{target}: a directory cannot take the place of a file")
    if target.endswith("/") and not is_directory:
        raise NotFound(f"{target}: there is no such directory")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise NotFound(f"{os.path.dirname(path)}: there is no such directory")
    return path
