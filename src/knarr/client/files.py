"""A directory as a builder reads it: every entry told, and the content of those it asks for.

Which entries that are, is said by include and exclude patterns and by paths to be
followed; a symlink among those brings what it leads to. Owners are told as root: whose
files they are here means nothing there.

Spec: fsutil's filter.go, followlinks.go and send.go; BuildKit's session/filesync.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat as kinds
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from knarr import patterns
from knarr.buildkit.gomode import go_mode
from knarr.errors import KnarrError
from knarr.pb.packet_pb2 import Packet
from knarr.pb.stat_pb2 import Stat
from knarr.record import record
from knarr.scope import TICK_S, Scope

_DATA = 256 << 10  # bytes of a piece: a quarter of a MiB fills a connection, and clients of 2019 took 4 MiB
_MAX_LINKS = 255  # that are followed for one path
# What a build may keep of them: others are the kernel's or this machine's own.
_XATTRS = ("user.", "security.capability")


@record
class Entry:
    """One file or directory: its path as it is told, and as it is here."""

    told: str
    place: str
    status: os.stat_result


@record
class Selection:
    """What is wanted of a directory; empty lists select everything."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()


def entries(root: str, wanted: Selection) -> Iterator[Entry]:
    """The selected entries below `root`, in the order of their paths' parts, each directory before what is in it.

    Raises:
        UsageError: a pattern is malformed.
        OSError: a directory cannot be read.
    """
    include = _included(root, wanted)
    exclude = patterns.Matcher(wanted.exclude) if wanted.exclude else None
    unsaid: list[Entry] = []  # directories above that were not selected themselves, outermost first
    levels: list[Iterator[Entry]] = [_listed(root, "")]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            continue
        if kinds.S_ISSOCK(entry.status.st_mode):
            continue  # a socket means nothing elsewhere
        included = include is None or include.matches(entry.told)
        excluded = exclude is not None and exclude.matches(entry.told)
        while unsaid and not entry.told.startswith(unsaid[-1].told + "/"):
            unsaid.pop()
        if included and not excluded:
            yield from unsaid
            unsaid.clear()
            yield entry
        elif kinds.S_ISDIR(entry.status.st_mode):
            if not included and include is not None and not include.may_contain_match(entry.told):
                continue
            if excluded and exclude is not None and not exclude.may_contain_match(entry.told):
                continue
            unsaid.append(entry)
        if kinds.S_ISDIR(entry.status.st_mode):
            levels.append(_listed(entry.place, entry.told))


def _listed(place: str, told: str) -> Iterator[Entry]:
    for name in sorted(os.listdir(place), key=os.fsencode):
        path = f"{place}/{name}"
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            yield Entry(f"{told}/{name}" if told else name, path, os.lstat(path))


def _included(root: str, wanted: Selection) -> patterns.Matcher | None:
    followed = follow(root, wanted.follow) if wanted.follow else ()
    if followed is None:
        return None
    found = (*wanted.include, *followed)
    return patterns.Matcher(found) if found else None


def follow(root: str, paths: Sequence[str]) -> tuple[str, ...] | None:
    """`paths`, and where the symlinks among their parts lead to, as patterns. None: all of `root`."""
    found: dict[str, None] = {}
    todo = deque((path, 0) for path in paths)
    while todo:
        path, depth = todo.popleft()
        path = posixpath.normpath(path).lstrip("/")
        if path in ("", "."):
            return None
        link = _first_link(root, path)
        if link is None:
            found[path] = None
            continue
        at, rest, targets = link
        found[at] = None
        if depth < _MAX_LINKS:
            todo.extend((posixpath.join(target, rest), depth + 1) for target in targets)
    return tuple(found)


def _first_link(root: str, path: str) -> tuple[str, str, list[str]] | None:
    """The first part of `path` that is a symlink, or a wildcard that matches some; the rest; where they lead to."""
    parts = path.split("/")
    at = ""
    for number, part in enumerate(parts):
        above, at = at, f"{at}/{part}" if at else part
        if patterns.has_wildcard(part):
            names = [name for name in _names(root, above) if patterns.match(part, name)]
        else:
            names = [part]
        links = [target for name in names if (target := _target(root, above, name)) is not None]
        rest = "/".join(parts[number + 1 :])
        if links:
            return at, rest, links
        if patterns.has_wildcard(part) and rest:
            return None  # what lies behind is matched as a pattern
    return None


def _names(root: str, directory: str) -> list[str]:
    try:
        return os.listdir(f"{root}/{directory}")
    except OSError:
        return []


def _target(root: str, directory: str, name: str) -> str | None:
    """Where a symlink leads to, from the root; never out of it."""
    try:
        link = os.readlink(f"{root}/{directory}/{name}")
    except OSError:
        return None
    return posixpath.normpath(posixpath.join("/", directory, link))


class Sender:
    """One transfer: the packets to send, made as they are asked for."""

    def __init__(self, name: str, root: str, wanted: Selection) -> None:
        """`name` is what people call the directory."""
        self._name = name
        self._root = root
        self._wanted = wanted
        self._asked: deque[int] = deque()
        self._woken = threading.Event()
        self._over = False
        self._files: dict[int, str] = {}
        self._links: dict[tuple[int, int], str] = {}

    def packets(self, requests: Iterator[Packet], *, scope: Scope) -> Iterator[Packet]:
        """What to send while `requests` come in.

        They are read on a thread of their own: a builder that waits for us to take a
        request must never meet us waiting for it to take an entry. That thread, one of
        `scope`, ends with the call.
        """
        scope.attempt(self._listen, requests)
        try:
            yield from self._told()
            while not self._over or self._asked:
                if self._asked:
                    yield from self._content(self._asked.popleft())
                else:
                    self._woken.wait(TICK_S)
                    self._woken.clear()
        except OSError as error:
            shown = str(error.filename or self._root).removeprefix(self._root + "/")
            raise KnarrError(
                f"{self._name}: {shown} cannot be sent: {error.strerror or error}",
                hint="leave it out with .dockerignore, or make it readable",
            ) from error
        yield Packet(type=Packet.PACKET_FIN)

    def _listen(self, requests: Iterator[Packet]) -> None:
        try:
            for packet in requests:
                if packet.type == Packet.PACKET_REQ:
                    self._asked.append(packet.ID)
                elif packet.type in (Packet.PACKET_FIN, Packet.PACKET_ERR):
                    break
                self._woken.set()
        finally:
            self._over = True
            self._woken.set()

    def _told(self) -> Iterator[Packet]:
        for number, entry in enumerate(entries(self._root, self._wanted)):
            if kinds.S_ISREG(entry.status.st_mode):
                self._files[number] = entry.place
            yield Packet(type=Packet.PACKET_STAT, stat=self._stat(entry))
            while self._asked:
                yield from self._content(self._asked.popleft())
        yield Packet(type=Packet.PACKET_STAT)

    def _stat(self, entry: Entry) -> Stat:
        status = entry.status
        mode = status.st_mode
        stat = Stat(path=entry.told, mode=go_mode(mode), modTime=status.st_mtime_ns)
        if kinds.S_ISLNK(mode):
            stat.linkname = os.readlink(entry.place)
            stat.size = status.st_size
        elif kinds.S_ISCHR(mode) or kinds.S_ISBLK(mode):
            stat.devmajor, stat.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        elif not kinds.S_ISDIR(mode):
            stat.size = status.st_size
            if status.st_nlink > 1:
                first = self._links.setdefault((status.st_dev, status.st_ino), entry.told)
                if first != entry.told:
                    stat.linkname = first
        if not kinds.S_ISLNK(mode):
            for key, value in _xattrs(entry.place).items():
                stat.xattrs[key] = value
        return stat

    def _content(self, number: int) -> Iterator[Packet]:
        place = self._files.get(number)
        if place is None:
            raise KnarrError(f"the builder asked for entry {number} of {self._name}, which it was not told of")
        # It may have been replaced since it was told of; a fifo would hold us until somebody writes to it.
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while data := os.read(descriptor, _DATA):
                yield Packet(type=Packet.PACKET_DATA, ID=number, data=data)
        finally:
            os.close(descriptor)
        yield Packet(type=Packet.PACKET_DATA, ID=number)


def _xattrs(place: str) -> dict[str, bytes]:
    found = {}
    with contextlib.suppress(OSError):  # not every file system has them
        for key in os.listxattr(place, follow_symlinks=False):
            if key.startswith(_XATTRS):
                found[key] = os.getxattr(place, key, follow_symlinks=False)
    return found
