"""Follow the frames and blocks of a zstd stream, to know whether it ended where it may.

Only headers are looked at: three bytes in every block of up to 128 KiB.
Spec: RFC 8878, sections 3.1.1 and 3.1.2.
"""

from __future__ import annotations

from collections.abc import Callable

from knarr.errors import LayerInvalid
from knarr.streams import Readable

_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A50  # and the 15 numbers after it
_RLE = 1  # a block type: one byte stands for the whole block
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)  # by the frame content size flag
_DICTIONARY_BYTES = (0, 1, 2, 4)


class FrameReader:
    """Hands a zstd stream on, and fails rather than end inside a frame.

    Raises (from `read`):
        LayerInvalid: the stream is cut off, or something else follows a frame.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._skip = 0  # bytes to the next header
        self._head = b""  # what is here of that header
        self._want = 4  # its length
        self._step: Callable[[int], None] = self._magic  # what to do with it
        self._checksum = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        if data:
            self._follow(data)
        elif size and (self._skip or self._head or self._step != self._magic):
            raise LayerInvalid("the zstd stream is cut off")
        return data

    def _follow(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._skip:
                passed = min(self._skip, len(data) - at)
                self._skip -= passed
                at += passed
                continue
            part = data[at : at + self._want - len(self._head)]
            self._head += part
            at += len(part)
            if len(self._head) == self._want:
                head, self._head = self._head, b""
                self._step(int.from_bytes(head, "little"))

    def _expect(self, size: int, step: Callable[[int], None]) -> None:
        self._want, self._step = size, step

    def _magic(self, number: int) -> None:
        if number == _MAGIC:
            self._expect(1, self._descriptor)
        elif number & ~0xF == _SKIPPABLE:
            self._expect(4, self._skippable)
        else:
            raise LayerInvalid("the zstd stream has other data behind a frame")

    def _skippable(self, size: int) -> None:
        self._skip = size
        self._expect(4, self._magic)

    def _descriptor(self, flags: int) -> None:
        single_segment = flags >> 5 & 1
        content_size = _CONTENT_SIZE_BYTES[flags >> 6] or single_segment
        window = 1 - single_segment
        self._checksum = 4 * (flags >> 2 & 1)
        self._skip = window + _DICTIONARY_BYTES[flags & 3] + content_size
        self._expect(3, self._block)

    def _block(self, header: int) -> None:
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        self._skip = 1 if kind == _RLE else size
        if last:
            self._skip += self._checksum
            self._expect(4, self._magic)
