"""How the first bytes of a file tell what it is."""

from __future__ import annotations

_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)


def sniff(start: bytes) -> str:
    """`gzip`, `zstd`, `bzip2`, `xz` or `uncompressed`, from the first 10 bytes of a stream."""
    for magic, kind in _MAGICS:
        if start.startswith(magic) and (kind != "bzip2" or start[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")):
            return kind
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F:
        return "zstd"  # begins with a skippable frame, as zstd:chunked layers may
    return "uncompressed"


def is_archive(head: bytes) -> bool:
    """Whether a file that begins with `head` (512 bytes are enough) is a tar archive, compressed or not."""
    return sniff(head) != "uncompressed" or head[257:262] == b"ustar"
