"""Files from a client: BuildKit's file transfer, on its receiving side.

The client walks its directory and tells every entry; we ask for the content of
those that differ from what is here since the last build, and it comes in pieces,
mixed with entries that follow.

Spec: fsutil's receive.go and send.go; BuildKit's session/filesync.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import grpc

from knarr.buildkit.failure import failure_of
from knarr.buildkit.mirror import Mirror
from knarr.errors import KnarrError, NothingLent
from knarr.patterns import Matcher
from knarr.pb import filesync_pb2
from knarr.pb.packet_pb2 import Packet

if TYPE_CHECKING:
    from knarr.buildkit.sessions import Client
    from knarr.pb.stat_pb2 import Stat
    from knarr.scope import Scope
    from knarr.session.session import Sent, Wanted

FILE_SYNC = filesync_pb2.DESCRIPTOR.services_by_name["FileSync"]
DESCRIPTION = ".fsutil-metadata"
_DIRECTORY = 1 << 31  # of Go's os.FileMode


def receive(client: Client, wanted: Wanted, root: Path, *, scope: Scope, sent: Sent | None = None) -> None:
    """Make `root` hold what `wanted` names of the client's directory, and nothing else.

    Raises:
        KnarrError: the client has no such directory, or it cannot send it; `root` may be half done.
        Cancelled: the scope was cancelled, or the client left.
    """
    if not client.offers(FILE_SYNC, "DiffCopy"):
        raise NothingLent("the client lends no files", hint="give the build a local context: --local context=.")
    outgoing: SimpleQueue[Packet | None] = SimpleQueue()
    call = client.caller(FILE_SYNC).stream("DiffCopy", iter(outgoing.get, None), metadata=_metadata(wanted))
    mirror = Mirror(root, anew=wanted.anew)
    try:
        with scope.on_cancel(call.cancel):
            _Receiver(mirror, outgoing, wanted, root).run(call, sent)
    except grpc.RpcError as error:
        scope.check()
        raise failure_of(error) from None
    except OSError as error:
        raise KnarrError(f"the files of {wanted.name} cannot be kept: {error.strerror or error}") from error
    finally:
        outgoing.put(None)  # a thread of gRPC's waits for it
        call.cancel()
        mirror.close()


class _Receiver:
    """The packets of one transfer, as they come."""

    def __init__(self, mirror: Mirror, outgoing: SimpleQueue[Packet | None], wanted: Wanted, root: Path) -> None:
        self._mirror = mirror
        self._outgoing = outgoing
        self._paths: dict[int, str] = {}  # asked for, by the number of the entry
        self._count = 0
        self._told_all = False
        self._described = _Described(wanted, root) if wanted.described else None

    def run(self, call: Iterator[Packet], sent: Sent | None) -> None:
        size = 0
        for packet in call:
            size += packet.ByteSize()
            if sent is not None:
                sent(size, False)
            if self._take(packet):
                break
        else:
            if not self._told_all or self._mirror.waiting:
                raise KnarrError("the client stopped sending files before it had sent all")
        if sent is not None:
            sent(size, True)

    def _take(self, packet: Packet) -> bool:
        """Carry out one packet; True when that was the last."""
        kind = packet.type
        if kind == Packet.PACKET_STAT:
            self._told(packet)
        elif kind == Packet.PACKET_DATA:
            self._content(packet)
        elif kind == Packet.PACKET_ERR:
            raise KnarrError(f"the client could not send its files: {packet.data.decode(errors='replace')}")
        elif kind == Packet.PACKET_FIN:
            return True
        if kind != Packet.PACKET_REQ and self._told_all and not self._mirror.waiting:
            self._finish()
        return False

    def _told(self, packet: Packet) -> None:
        if not packet.HasField("stat"):
            self._told_all = True
            return
        stat, number = packet.stat, self._count
        if self._described is None:
            self._count += 1
            self._enter(stat, number)
            return
        if stat.path == DESCRIPTION:
            return
        self._count += 1
        for entry in self._described.needed(stat):
            self._enter(entry, number)

    def _enter(self, stat: Stat, number: int) -> None:
        if self._mirror.enter(stat):
            self._paths[number] = stat.path
            self._outgoing.put(Packet(type=Packet.PACKET_REQ, ID=number))

    def _content(self, packet: Packet) -> None:
        path = self._paths.get(packet.ID)
        if path is None:
            raise KnarrError(f"the client sent the content of entry {packet.ID}, which was not asked for")
        if packet.data:
            self._mirror.write(path, packet.data)
        else:
            del self._paths[packet.ID]
            self._mirror.complete(path)

    def _finish(self) -> None:
        self._told_all = False  # once
        self._mirror.finish()
        if self._described is not None:
            self._described.close()
        self._outgoing.put(Packet(type=Packet.PACKET_FIN))


class _Described:
    """Only a description of the entries is wanted, but for some whose content is, with the directories they are in."""

    def __init__(self, wanted: Wanted, root: Path) -> None:
        self._contents = Matcher(wanted.contents)
        self._parents: list[Stat] = []
        self._path = root / DESCRIPTION
        self._records = bytearray()

    def needed(self, stat: Stat) -> list[Stat]:
        """The entries that must be here because of `stat`: none, or it and the directories above it."""
        data = stat.SerializeToString()
        self._records += struct.pack("<I", len(data)) + data
        parent = stat.path.rpartition("/")[0]
        while self._parents and self._parents[-1].path != parent:
            self._parents.pop()
        if self._contents.matches(stat.path):
            needed, self._parents = [*self._parents, stat], []
            return needed
        if stat.mode & _DIRECTORY:
            self._parents.append(stat)
        return []

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._path.write_bytes(self._records)


def _metadata(wanted: Wanted) -> list[tuple[str, str]]:
    values: dict[str, Sequence[str]] = {
        "include-patterns": wanted.include,
        "exclude-patterns": wanted.exclude,
        "followpaths": wanted.follow,
        "dir-name": (wanted.name,),
    }
    return [pair for key, texts in values.items() for pair in encoded(key, texts)]


def encoded(key: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A header's values, escaped as a whole when one of them could not travel as it is."""
    if all(text.isascii() and text.isprintable() for text in texts):
        yield from ((key, text) for text in texts)
        return
    yield f"{key}-encoded", "1"
    for text in texts:
        yield key, quote_plus(text)
