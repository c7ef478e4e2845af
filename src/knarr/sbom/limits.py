"""How much of a tree a scan is ready to read: a stranger made it."""

from __future__ import annotations

from knarr.record import record

_MIB = 1 << 20


@record
class Limits:
    """Bounds of one scan. What is beyond is passed over, and the inventory says so."""

    files: int = 5_000_000  # of the tree: ten times a large desktop system
    packages: int = 250_000  # Debian has 65,000 in all
    database: int = 256 * _MIB  # bytes; the rpm database of a full desktop has 150 MiB
    status: int = 64 * _MIB  # bytes of a database that is text; that of Debian with 5,000 packages has 6 MiB
    text: int = 8 * _MIB  # bytes of a file of metadata; the METADATA of tensorflow has 60 KiB
    lock: int = 32 * _MIB  # bytes of a lock file, which holds a whole project, and of a list of files
    program: int = 8 * _MIB  # bytes of build information in a program; that of kubelet has 60 KiB
    archive: int = 2048 * _MIB  # bytes of a jar
    directory: int = 24 * _MIB  # bytes of an archive's table of contents: 200,000 entries with long names
    unpacked: int = 1024 * _MIB  # bytes that come out of one archive, with those inside of it
    total: int = 16 * 1024 * _MIB  # bytes of metadata in all: one file may have many names
    entries: int = 200_000  # of one archive, with those inside of it
    depth: int = 4  # archives within archives: a war in an ear has jars
    steps: int = 50_000_000  # of SQLite's machine for one query; a database of 2,000 packages takes 20,000
