"""What a builder makes, put where its user wants it: archives into files, directories into directories.

`Outputs` serves `FileSend`; each call names its output by number. A directory comes
into one of our own first: what a builder sends is written to no place where a symlink
could lead it elsewhere.

Spec: BuildKit's session/filesync (FileSend), fsutil's receive.go.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from knarr.buildkit.mirror import Mirror
from knarr.buildkit.service import raw
from knarr.client.services import headers
from knarr.errors import KnarrError, Unsupported, UsageError
from knarr.export.local import write_tree
from knarr.layer.parents import remove_tree
from knarr.pb.filesync_pb2 import BytesMessage
from knarr.pb.packet_pb2 import Packet
from knarr.record import record
from knarr.scope import Scope
from knarr.streams import Writable

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

_NUMBER = "buildkit-attachable-exporter-id"
_TOGETHER = "buildkit-exporter-multi-platform"  # all platforms come in one call
_DEVICE = 1 << 26  # of Go's os.FileMode


@record
class FileOutput:
    """An archive: `opened` gives the file, which is complete when its block is left."""

    opened: Callable[[], AbstractContextManager[Writable]]


@record
class TreeOutput:
    """A directory. With `delete`, what is there beside the result goes."""

    dest: str
    delete: bool = False


class Outputs:
    """Serves `FileSend`. `written` are the numbers of those that came."""

    def __init__(self, outputs: Mapping[int, FileOutput | TreeOutput], place: Path, scope: Scope) -> None:
        """`place` is a directory of ours alone."""
        self._outputs = dict(outputs)
        self._place = place
        self._scope = scope
        self._turn = threading.Lock()  # two platforms of one build may come at once, into one directory
        self.written: set[int] = set()
        self.failure: KnarrError | None = None

    @raw
    def diff_copy(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
        given = headers(context)
        number = int("".join(given.get(_NUMBER, [])[:1]) or "0")
        output = self._outputs.get(number)
        if output is None:
            raise UsageError(f"output {number} is none that was asked for")
        try:
            if isinstance(output, FileOutput):
                self._take_file(output, requests)
                self.written.add(number)
                return
            if output.delete and given.get(_TOGETHER) != ["1"]:
                raise Unsupported(
                    "this builder cannot say that it has sent everything, so mode=delete would remove too much",
                    hint="leave out mode=delete, or use BuildKit v0.33 or later",
                )
            with self._turn:
                yield from self._take_tree(output, map(Packet.FromString, requests))
            self.written.add(number)
        except KnarrError as error:
            self.failure = error  # as it is, and not as the builder passes it on
            raise

    def _take_file(self, output: FileOutput, requests: Iterator[bytes]) -> None:
        with output.opened() as file:
            for data in requests:
                self._scope.check()
                file.write(BytesMessage.FromString(data).data)

    def _take_tree(self, output: TreeOutput, packets: Iterator[Packet]) -> Iterator[Packet]:
        root = Path(mkdtemp(dir=self._place))
        try:
            yield from _received(root, packets)
            write_tree(os.fspath(root), output.dest, scope=self._scope, delete=output.delete)
            yield Packet(type=Packet.PACKET_FIN)
            # Hanging up before the builder has said its last word would be a failure to it.
            for packet in packets:
                if packet.type == Packet.PACKET_FIN:
                    break
        except OSError as error:
            raise KnarrError(f"{output.dest}: {error.strerror or error}", hint="see whether there is room") from error
        finally:
            with contextlib.suppress(OSError):
                remove_tree(os.fspath(root))


def _received(root: Path, packets: Iterator[Packet]) -> Iterator[Packet]:
    """Take every entry into `root`, asking for the content of files; ends when all has come."""
    mirror = Mirror(root)
    paths: dict[int, str] = {}
    count, told_all = 0, False
    try:
        for packet in packets:
            if packet.type == Packet.PACKET_ERR:
                raise KnarrError(f"the builder could not send its files: {packet.data.decode(errors='replace')}")
            if packet.type == Packet.PACKET_STAT and packet.HasField("stat"):
                packet.stat.uid, packet.stat.gid = os.geteuid(), os.getegid()
                _check(packet)
                if mirror.enter(packet.stat):
                    paths[count] = packet.stat.path
                    yield Packet(type=Packet.PACKET_REQ, ID=count)
                count += 1
            elif packet.type == Packet.PACKET_STAT:
                told_all = True
            elif packet.type == Packet.PACKET_DATA:
                _take_data(mirror, paths, packet)
            if told_all and not mirror.waiting:
                mirror.finish()
                return
        raise KnarrError("the builder stopped sending files before it had sent all")
    finally:
        mirror.close()


def _take_data(mirror: Mirror, paths: dict[int, str], packet: Packet) -> None:
    path = paths.get(packet.ID)
    if path is None:
        raise KnarrError(f"the builder sent the content of entry {packet.ID}, which was not asked for")
    if packet.data:
        mirror.write(path, packet.data)
    else:
        del paths[packet.ID]
        mirror.complete(path)


def _check(packet: Packet) -> None:
    """Devices are for root to make."""
    if os.geteuid() != 0 and packet.stat.mode & _DEVICE:
        raise KnarrError(
            f"{packet.stat.path} is a device, which only root can make", hint="run as root, or write type=tar"
        )
