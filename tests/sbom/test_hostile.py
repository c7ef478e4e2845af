"""Trees that were made to hurt: a scan ends, stays inside, and says what it passed over."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from knarr.sbom.limits import Limits
from knarr.sbom.tree import Tree

STATUS = "Package: p\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"


def test_no_link_leads_out_of_the_root(scanned, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("see /usr/share/common-licenses/GPL-2")
    doc = tmp_path / "root/usr/share/doc/p"
    doc.mkdir(parents=True)
    (doc / "copyright").symlink_to(tmp_path / "secret")
    (tmp_path / "root/etc").symlink_to("/etc")
    found = scanned({"var/lib/dpkg/status": STATUS, "var/lib/dpkg/info/p.list": "/etc/hostname\n/../../secret\n"})
    assert found.packages[0].license_files == ()
    assert found.distribution.id == ""
    assert dict(found.files) == {}


def test_links_in_a_circle_are_nothing(scanned, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").symlink_to("b")
    (tmp_path / "root/b").symlink_to("a")
    found = scanned({"var/lib/dpkg/status": STATUS, "var/lib/dpkg/info/p.list": "/a/x\n/a\n"})
    assert found.owners == ((),)


def test_a_fifo_is_not_waited_for(scanned, tmp_path: Path) -> None:
    place = tmp_path / "root/usr/share/doc/p"
    place.mkdir(parents=True)
    os.mkfifo(place / "copyright")
    os.mkfifo(tmp_path / "root/x.jar")
    assert scanned({"var/lib/dpkg/status": STATUS}).packages[0].license_files == ()


def test_a_file_beyond_the_limit_is_told(scanned) -> None:
    found = scanned({"var/lib/dpkg/status": STATUS + "X" * 2000}, limits=Limits(status=1000))
    assert [(one.path, one.reason) for one in found.skipped] == [("var/lib/dpkg/status", "larger than 0 MiB")]


def test_too_many_files_and_packages_are_told(scanned) -> None:
    many = {f"var/lib/dpkg/status.d/p{n}": f"Package: p{n}\nVersion: 1\n" for n in range(20)}
    found = scanned(many, limits=Limits(packages=5))
    assert len(found.packages) == 5
    assert "more than 5 packages" in found.skipped[-1].reason
    assert "more than 10 files" in scanned(many, limits=Limits(files=10)).skipped[-1].reason


def test_a_bomb_in_a_jar_is_cut_off(scanned, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with zipfile.ZipFile(tmp_path / "root/bomb-1.jar", "w", zipfile.ZIP_DEFLATED) as jar:
        jar.writestr("META-INF/MANIFEST.MF", b"A: b\n" * 1_000_000)
        jar.writestr("lib/inner.jar", b"PK" + b"\0" * 5_000_000)
    found = scanned(limits=Limits(text=1 << 20, unpacked=2 << 20))
    assert {one.path for one in found.skipped} == {
        "bomb-1.jar!META-INF/MANIFEST.MF",
        "bomb-1.jar!lib/inner.jar",
    }


def test_jars_within_jars_end_somewhere(scanned, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    content = b""
    for _ in range(6):
        place = tmp_path / "x.jar"
        with zipfile.ZipFile(place, "w") as jar:
            jar.writestr("META-INF/MANIFEST.MF", "A: b\n")
            jar.writestr("a.jar", content)
        content = place.read_bytes()
    found = scanned({"a.jar": content})
    assert [one.reason for one in found.skipped] == ["an archive more than 4 deep"]


def test_a_jar_that_says_it_has_a_huge_table_of_contents_is_not_opened(scanned) -> None:
    end = b"PK\x05\x06" + b"\0" * 8 + (0x7FFFFFFF).to_bytes(4, "little") + b"\0" * 6
    found = scanned({"a.jar": b"PK" + end})
    assert "table of contents" in found.skipped[0].reason


@pytest.mark.parametrize("cut", [2, 30, 60, 100])
def test_a_jar_that_is_cut_short_is_told(scanned, tmp_path: Path, cut: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.jar", "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "A: b\n")
    found = scanned({"a.jar": (tmp_path / "x.jar").read_bytes()[:cut]})
    assert [one.path for one in found.skipped] == ["a.jar"]


def test_json_that_is_nested_without_end_is_told(scanned) -> None:
    found = scanned({"node_modules/a/package.json": "[" * 100_000, "b/package-lock.json": "{"})
    assert {one.path for one in found.skipped} == {"node_modules/a/package.json", "b/package-lock.json"}


@pytest.mark.parametrize(
    "value", ["[]", "3", '{"name": 1, "version": []}', '{"packages": {"x": 3}}', '{"packages": 1}']
)
def test_json_of_another_shape_is_nothing(scanned, value: str) -> None:
    found = scanned({"node_modules/a/package.json": value, "b/package-lock.json": value})
    assert found.packages == ()


def test_names_that_are_no_utf_8_are_shown_with_a_mark(scanned, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path / "root") + b"/usr/\xff"
    os.makedirs(os.path.dirname(odd))
    with open(odd, "wb") as file:
        file.write(b"x")
    status = STATUS.encode() + b"Maintainer: \xff\n"
    found = scanned({"var/lib/dpkg/status": status, "var/lib/dpkg/info/p.list": b"/usr/\xff\n"})
    assert found.packages[0].supplier == "�"
    assert list(found.files) == ["usr/�"]


def test_a_directory_where_a_file_should_be_is_nothing(scanned, tmp_path: Path) -> None:
    for name in ("var/lib/dpkg/status", "usr/lib/python3/x.dist-info/METADATA", "a.jar", "var/lib/rpm/Packages"):
        (tmp_path / "root" / name).mkdir(parents=True)
    assert scanned().packages == ()


def test_whoever_asks_can_stop_a_scan(tmp_path: Path) -> None:
    class Stopped(Exception):
        """Raised by the one who asks."""

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        list(Tree(str(tmp_path), check=stop).walk())


def test_a_field_of_millions_of_lines_is_cut_off(scanned) -> None:
    status = STATUS + "Description: x\n" + " y\n" * 2_000_000 + "".join(f"K{n}: v\n" for n in range(2000))
    assert scanned({"var/lib/dpkg/status": status}).packages[0].name == "p"


@pytest.mark.parametrize("line", ["\n", 's.name = "', "s.licenses = [", "%q{", "'", " \n \n"])
def test_a_gemspec_of_millions_of_odd_lines_is_read_in_one_go(scanned, line: str) -> None:
    text = 's.name = "a"\ns.version = "1"\n' + line * (2_000_000 // len(line))
    assert scanned({"specifications/a.gemspec": text}).packages[0].name == "a"


def test_one_file_under_many_names_is_not_read_for_ever(scanned, tmp_path: Path) -> None:
    doc = tmp_path / "root/usr/share/doc"
    (tmp_path / "text").parent.mkdir(exist_ok=True)
    (tmp_path / "text").write_text("x" * 10_000)
    for number in range(50):
        (doc / f"p{number}").mkdir(parents=True)
        os.link(tmp_path / "text", doc / f"p{number}/copyright")
    many = "\n".join(STATUS.replace("Package: p", f"Package: p{number}") for number in range(50))
    found = scanned({"var/lib/dpkg/status": many}, limits=Limits(total=100_000))
    assert len(found.packages) == 50
    assert 1 <= sum("in all" in one.reason for one in found.skipped) <= 50
    assert sum(bool(one.license_files) for one in found.packages) < 10
