"""rpm's headers and its three databases. tests/interop/test_sbom.py has databases that rpm and Berkeley DB made."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.sbom import rpmbdb, rpmheader, rpmndb
from knarr.sbom.limits import Limits
from knarr.sbom.tree import Tree

INT32, STRING, STRINGS, I18N = 4, 6, 8, 9
SAMPLE = [
    (rpmheader.NAME, STRING, ["sample"]),
    (rpmheader.VERSION, STRING, ["1.4"]),
    (rpmheader.RELEASE, STRING, ["3.fc39"]),
    (rpmheader.EPOCH, INT32, [2]),
    (rpmheader.SUMMARY, I18N, ["A sample"]),
    (rpmheader.LICENSE, STRING, ["GPLv2+ and MIT"]),
    (rpmheader.ARCH, STRING, ["x86_64"]),
    (rpmheader.SOURCERPM, STRING, ["sample-src-1.4-3.fc39.src.rpm"]),
    (rpmheader.REQUIRES, STRINGS, ["libc.so.6()(64bit)", "rpmlib(X)"]),
    (rpmheader.DIRNAMES, STRINGS, ["/usr/bin/", "/usr/share/licenses/sample/"]),
    (rpmheader.BASENAMES, STRINGS, ["sample", "COPYING"]),
    (rpmheader.DIRINDEXES, INT32, [0, 1]),
    (rpmheader.FILEFLAGS, INT32, [0, 128]),
]


def header(entries: list[tuple[int, int, list[str] | list[int]]]) -> bytes:
    index, data = b"", b""
    for tag, kind, values in entries:
        if kind == INT32:
            data += b"\0" * (-len(data) % 4)
        index += struct.pack(">IIII", tag, kind, len(data), len(values))
        for value in values:
            data += struct.pack(">I", value) if isinstance(value, int) else value.encode() + b"\0"
    return struct.pack(">II", len(entries), len(data)) + index + data


def ndb(blobs: list[bytes]) -> bytes:
    slots, body, at = b"", b"", 4096 // 16
    for number, blob in enumerate(blobs, 1):
        entry = struct.pack("<4sIII", b"BlbS", number, 0, len(blob)) + blob
        entry += b"\0" * (-len(entry) % 16)
        slots += struct.pack("<4sIII", b"Slot", number, at, len(entry) // 16)
        body, at = body + entry, at + len(entry) // 16
    head = struct.pack("<4sIII", b"RpmP", 0, 1, 1) + b"\0" * 16
    slots += struct.pack("<4sIII", b"Slot", 0, 0, 0) * ((4096 - 32 - len(slots)) // 16)
    return head + slots + body


def sqlite(path: Path, blobs: list[bytes]) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    connection.commit()
    connection.close()


def test_a_package_of_sqlite(scanned, tmp_path: Path) -> None:
    place = tmp_path / "root/usr/lib/sysimage/rpm"
    place.mkdir(parents=True)
    sqlite(place / "rpmdb.sqlite", [header(SAMPLE), header([(rpmheader.NAME, STRING, ["gpg-pubkey"])])])
    found = scanned({"etc/os-release": "ID=fedora\nVERSION_ID=39\n", "usr/share/licenses/sample/COPYING": "text"})
    (package,) = found.packages
    assert (package.name, package.version, package.architecture) == ("sample", "1.4-3.fc39", "x86_64")
    assert (package.source, package.source_version) == ("sample-src", "1.4-3.fc39")
    assert dict(package.qualifiers) == {"epoch": "2", "upstream": "sample-src-1.4-3.fc39.src.rpm"}
    assert package.license_files == ("usr/share/licenses/sample/COPYING",)
    assert package.requires == ("libc.so.6()(64bit)",)
    assert found.owners == (("usr/share/licenses/sample/COPYING",),)


def test_a_package_of_ndb(scanned) -> None:
    found = scanned({"var/lib/rpm/Packages.db": ndb([header(SAMPLE), b"junk", header(SAMPLE[:3])])})
    assert [one.version for one in found.packages] == ["1.4-3.fc39", "1.4-3.fc39"]
    assert [one.reason for one in found.skipped] == ["an entry is damaged: shorter than a header"]


def test_a_view_that_counts_for_ever_is_no_table(scanned, tmp_path: Path) -> None:
    place = tmp_path / "root/var/lib/rpm"
    place.mkdir(parents=True)
    connection = sqlite3.connect(place / "rpmdb.sqlite")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS hnum, i AS blob FROM n"
    connection.execute(f"CREATE VIEW Packages AS {endless}")
    connection.close()
    assert [one.reason for one in scanned().skipped] == ["there is no table Packages"]


def test_a_table_that_takes_too_long_is_given_up(scanned, tmp_path: Path) -> None:
    place = tmp_path / "root/var/lib/rpm"
    place.mkdir(parents=True)
    sqlite(place / "rpmdb.sqlite", [b"x"] * 5000)
    (note,) = scanned(limits=Limits(steps=2000)).skipped[-1:]
    assert "interrupted" in note.reason


def test_pages_in_the_journal_count(scanned, tmp_path: Path) -> None:
    place = tmp_path / "root/var/lib/rpm"
    place.mkdir(parents=True)
    connection = sqlite3.connect(place / "rpmdb.sqlite")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    connection.execute("INSERT INTO Packages (blob) VALUES (?)", (header(SAMPLE),))
    connection.commit()
    try:
        assert (place / "rpmdb.sqlite-wal").stat().st_size > 0
        assert [one.name for one in scanned().packages] == ["sample"]
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["rpmdb.sqlite", "Packages.db", "Packages"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\0" * 5000])
def test_what_is_no_database_is_told(scanned, name: str, content: bytes) -> None:
    found = scanned({f"var/lib/rpm/{name}": content})
    assert found.packages == ()
    assert [one.path for one in found.skipped] == [f"var/lib/rpm/{name}"]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_a_value_error(raw: bytes) -> None:
    with contextlib.suppress(ValueError):
        rpmheader.parse(raw)


@settings(deadline=None)
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=40))
def test_a_header_that_was_damaged_never_fails_otherwise(at: int, junk: bytes) -> None:
    raw = bytearray(header(SAMPLE))
    raw[at % len(raw) : at % len(raw) + len(junk)] = junk
    with contextlib.suppress(ValueError):
        rpmheader.parse(bytes(raw))


@settings(deadline=None)
@given(st.integers(0, 9000), st.binary(min_size=1, max_size=40))
def test_a_damaged_database_ends_the_reading_and_not_the_scan(at: int, junk: bytes) -> None:
    raw = bytearray(ndb([header(SAMPLE)] * 3))
    raw[at % len(raw) : at % len(raw) + len(junk)] = junk
    list(rpmndb.blobs(Tree("/nowhere"), "x", bytes(raw)))


@settings(deadline=None)
@given(st.binary(min_size=600, max_size=4096))
def test_any_pages_behind_a_hash_s_first_are_borne(pages: bytes) -> None:
    head = bytearray(512)
    struct.pack_into("<III", head, 12, 0x061561, 9, 512)
    found = list(rpmbdb.blobs(Tree("/nowhere"), "x", bytes(head) + pages))
    assert sum(map(len, found)) <= len(head) + len(pages)
