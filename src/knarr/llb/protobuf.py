"""Protobuf's wire format, as far as LLB needs it, written deterministically.

A message is its fields' bytes joined in the order of their numbers. Each function
gives the bytes of one field; as in proto3, a scalar that is zero or empty is not
written. Joined in order, the bytes are those of Go's deterministic marshal. The
library itself takes 15 ms to import, which every cold build would pay:
docs/decisions/0006-protobuf.md.

    text(1, "sha256:…") + number(2, 1)

Spec: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=str)
T = TypeVar("T")

_VARINT, _LENGTH = 0, 2  # wire types


def number(field: int, value: int) -> bytes:
    """A number of any integer type, or an enumeration's."""
    return member(field, value) if value else b""


def member(field: int, value: int) -> bytes:
    """A number that is written even when it is zero: a member of a oneof, whose presence says something."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def numbers(field: int, values: Iterable[int]) -> bytes:
    """A repeated number, packed."""
    return data(field, b"".join(map(_varint, values)))


def flag(field: int, value: bool) -> bytes:
    return member(field, 1) if value else b""


def text(field: int, value: str) -> bytes:
    return message(field, value.encode()) if value else b""


def texts(field: int, values: Iterable[str]) -> bytes:
    return b"".join([message(field, value.encode()) for value in values])


def data(field: int, value: bytes) -> bytes:
    return message(field, value) if value else b""


def message(field: int, body: bytes) -> bytes:
    """A message that is there, even when it says nothing."""
    return _varint(field << 3 | _LENGTH) + _varint(len(body)) + body


def optional(field: int, write: Callable[[T], bytes], value: T | None) -> bytes:
    """A message that is there unless `value` is None."""
    return b"" if value is None else message(field, write(value))


def messages(field: int, write: Callable[[T], bytes], values: Iterable[T]) -> bytes:
    return b"".join([message(field, write(value)) for value in values])


def mapping(field: int, entries: Mapping[K, T], write: Callable[[int, T], bytes]) -> bytes:
    """A map by its keys' order. `write(2, value)` gives the value of an entry, also where it says nothing."""
    # UTF-8 sorts as code points do, so this is Go's order. Key and value are written even when empty.
    return b"".join([message(field, message(1, key.encode()) + write(2, entries[key])) for key in sorted(entries)])


def textmap(field: int, entries: Mapping[str, str]) -> bytes:
    return mapping(field, entries, lambda number, value: message(number, value.encode()))


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; a negative number as 64 bits, whatever its type.

    Raises:
        ValueError: the value does not fit.
    """
    if 0 <= value < 0x80:
        return _SMALL[value]
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"{value} does not fit into 64 bits")
    rest = value & 0xFFFF_FFFF_FFFF_FFFF
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


_SMALL = [bytes((value,)) for value in range(0x80)]
