"""One entry of a tar stream, and the type flags it may have.

Names and link targets are `str` as `os.fsdecode` makes them: bytes that are not
UTF-8 survive a round trip as surrogates. Spec: POSIX.1-2017 pax, "ustar
Interchange Format" and "pax Interchange Format".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

BLOCK = 512

REGULAR = "0"
HARDLINK = "1"
SYMLINK = "2"
CHARACTER = "3"
BLOCK_DEVICE = "4"
DIRECTORY = "5"
FIFO = "6"
GLOBAL = "g"

MAX_EXTENSION = 1 << 20  # bytes of one pax header or GNU long name; Go's archive/tar has the same limit

NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})


class Entry(NamedTuple):
    """One member of a tar, without its content.

    A named tuple and not a frozen dataclass: layers hold 100,000 of these, and
    a tuple is made in a third of the time.
    """

    name: str  # relative; a directory's may end with a slash
    type: str = REGULAR
    mode: int = 0o644  # permission bits, with set-uid, set-gid and sticky
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes of content; 0 for everything but REGULAR
    mtime_ns: int = 0
    linkname: str = ""
    devmajor: int = 0
    devminor: int = 0
    xattrs: Mapping[str, bytes] = NO_XATTRS
    uname: str = ""
    gname: str = ""
