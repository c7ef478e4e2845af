"""Packages and archives as tars of a root directory."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from knarr.errors import ContentError, LayerInvalid
from knarr.node.components import Component
from knarr.node.rootfs import RootTar, is_left_out
from tests.node.packages import deb

pytestmark = pytest.mark.system


def contents(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {entry.name: entry for entry in tar}


def text_of(path: Path, name: str) -> str:
    with tarfile.open(path) as tar:
        data = tar.extractfile(name)
        assert data is not None
        return data.read().decode()


def test_a_package_is_what_it_installs_and_a_note_for_scanners(tmp_path: Path) -> None:
    package = deb(tmp_path, "hello", "1.0", {"usr/bin/hello": "#!/bin/sh\n", "usr/share/doc/hello/README": "read me"})
    with RootTar(tmp_path / "out.tar", ("usr/share/doc/*",)) as out:
        out.add_package(package)
    found = contents(tmp_path / "out.tar")
    assert "usr/bin/hello" in found
    assert "usr/share/doc/hello/README" not in found
    assert "Version: 1.0" in text_of(tmp_path / "out.tar", "var/lib/dpkg/status.d/hello")


def test_a_directory_of_two_packages_is_there_once(tmp_path: Path) -> None:
    packages = [deb(tmp_path, name, "1", {f"usr/bin/{name}": name}) for name in ("one", "two")]
    with RootTar(tmp_path / "out.tar") as out:
        for package in packages:
            out.add_package(package)
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert [entry.name for entry in tar].count("usr/bin") == 1


def test_accounts_and_certificates_are_made_of_what_packages_bring(tmp_path: Path) -> None:
    files = {
        "usr/share/base-passwd/passwd.master": "root:*:0:0:root:/root:/bin/bash\n",
        "usr/share/base-passwd/group.master": "root:*:0:\n",
        "usr/share/ca-certificates/mozilla/B.crt": "B\n",
        "usr/share/ca-certificates/mozilla/A.crt": "A\n",
        "usr/sbin/iptables-nft": "",
    }
    with RootTar(tmp_path / "out.tar") as out:
        out.add_package(deb(tmp_path, "base", "1", files))
        out.finish_system()
    assert text_of(tmp_path / "out.tar", "etc/passwd").startswith("root:")
    assert text_of(tmp_path / "out.tar", "etc/ssl/certs/ca-certificates.crt") == "A\nB\n"
    found = contents(tmp_path / "out.tar")
    assert found["usr/sbin/iptables"].linkname == "iptables-nft"
    assert "usr/bin/awk" not in found  # nothing is there that it could lead to


def test_the_last_pattern_that_matches_counts() -> None:
    patterns = ("usr/share/doc/*", "!usr/share/doc/*/copyright")
    assert is_left_out("usr/share/doc/a/README", patterns)
    assert not is_left_out("usr/share/doc/a/copyright", patterns)
    assert not is_left_out("usr/bin/a", patterns)


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: data[:70], lambda data: b"no package"])
def test_a_damaged_package_is_refused_by_name(tmp_path: Path, damage: object) -> None:
    package = deb(tmp_path, "hello", "1.0", {"usr/bin/hello": "x" * 5000})
    package.write_bytes(damage(package.read_bytes()))  # type: ignore[operator]
    with (
        RootTar(tmp_path / "out.tar") as out,
        pytest.raises(ContentError, match=r"hello_1\.0_amd64\.deb: not a Debian"),
    ):
        out.add_package(package)


def archive(path: Path, names: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in names.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.mode = len(data), 501, 0o644
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_a_member_of_an_archive_goes_to_its_place_as_a_program_of_roots(tmp_path: Path) -> None:
    tool = Component("tool", "1", url="x", files={"bin/tool": "usr/local/bin/tool"})
    with RootTar(tmp_path / "out.tar") as out:
        out.add_archive(archive(tmp_path / "a.tgz", {"./bin/tool": b"program", "LICENSE": b"text"}), tool)
    found = contents(tmp_path / "out.tar")
    assert list(found) == ["usr/local/bin/tool"]
    assert (found["usr/local/bin/tool"].mode, found["usr/local/bin/tool"].uid) == (0o755, 0)


def test_an_archive_without_what_it_should_have_is_refused(tmp_path: Path) -> None:
    tool = Component("tool", "1", url="x", files={"bin/tool": "usr/local/bin/tool"})
    with RootTar(tmp_path / "out.tar") as out, pytest.raises(ContentError, match="tool 1: its archive has no bin/tool"):
        out.add_archive(archive(tmp_path / "a.tgz", {"tool": b"program"}), tool)
    (tmp_path / "b.tgz").write_bytes(b"<html>not here</html>")
    with RootTar(tmp_path / "out.tar") as out, pytest.raises(ContentError, match="component tool: not an archive"):
        out.add_archive(tmp_path / "b.tgz", tool)


def test_a_member_that_leads_out_of_the_root_is_refused(tmp_path: Path) -> None:
    tool = Component("tool", "1", url="x", files={"tool": "usr/local/bin/tool"})
    with RootTar(tmp_path / "out.tar") as out, pytest.raises(LayerInvalid, match="leads out of the root"):
        out.add_archive(archive(tmp_path / "a.tgz", {"../tool": b"program"}), tool)
