"""dpkg's database, the copyright files beside it, and distroless images."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from knarr.sbom.copyright import licenses_of
from knarr.sbom.scan import scan

STATUS = """\
Package: app
Status: install ok installed
Architecture: amd64
Source: app-src (1:1.0-1)
Version: 1:1.0-1+b2
Maintainer: A Team <team@example.com>
Depends: libc6 (>= 2.36), lib-other | lib-base, missing
Homepage: https://example.com
Description: an app
 and more of it

Package: lib-base
Status: install ok unpacked
Architecture: all
Version: 2
Multi-Arch: foreign

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 3
"""
DEP5 = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-2+ or Artistic, and Expat

Files: debian/*
License: GPL-2+
 the text
"""
FILES = {
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
    "var/lib/dpkg/status": STATUS,
    "var/lib/dpkg/info/app.list": "/.\n/usr\n/usr/bin\n/usr/bin/app\n/usr/bin/removed\n",
    "usr/bin/app": "program",
    "usr/share/doc/app/copyright": DEP5,
}


def test_a_package_has_all_that_its_database_says(scanned) -> None:
    found = scanned(FILES)
    app, base = found.packages
    assert (app.name, app.version, app.architecture) == ("app", "1:1.0-1+b2", "amd64")
    assert (app.source, app.source_version) == ("app-src", "1:1.0-1")
    assert app.licenses == ("GPL-2+ or Artistic, and Expat", "GPL-2+")
    assert app.license_files == ("usr/share/doc/app/copyright",)
    assert app.supplier == "A Team <team@example.com>"
    assert app.requires == ("libc6", "lib-other|lib-base", "missing")
    assert base.name == "lib-base"
    assert base.license_files == ()


def test_a_package_owns_those_of_its_files_that_are_there(scanned) -> None:
    found = scanned(FILES)
    assert found.owners[0] == ("usr/bin/app",)
    assert found.files["usr/bin/app"].size == 7


def test_files_are_found_through_the_links_of_a_merged_usr(scanned, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/bin").symlink_to("usr/bin")
    found = scanned({**FILES, "var/lib/dpkg/info/app.list": "/bin/app\n"})
    assert found.owners[0] == ("usr/bin/app",)


def test_images_without_dpkg_have_a_file_for_each_package(scanned) -> None:
    found = scanned(
        {
            "etc/os-release": "ID=debian\n",
            "var/lib/dpkg/status.d/base": "Package: base\nVersion: 1\nArchitecture: amd64\n",
            "var/lib/dpkg/status.d/base.md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/lib/base\n",
            "usr/lib/base": "",
            "usr/share/doc/base/copyright": "see /usr/share/common-licenses/GPL-2.\n",
        }
    )
    assert [(one.name, one.licenses) for one in found.packages] == [("base", ("GPL-2",))]
    assert found.owners == (("usr/lib/base",),)


def test_a_root_within_the_tree_is_of_its_own_distribution(scanned) -> None:
    inner = {f"srv/chroot/{path}": content for path, content in FILES.items()}
    inner["srv/chroot/etc/os-release"] = "ID=devuan\nVERSION_ID=5\n"
    found = scanned({"etc/os-release": "ID=debian\n", **inner})
    assert {one.namespace for one in found.packages} == {"devuan"}
    assert found.packages[0].license_files == ("srv/chroot/usr/share/doc/app/copyright",)


@pytest.mark.parametrize(
    ("text", "licenses"),
    [
        (DEP5, ("GPL-2+ or Artistic, and Expat", "GPL-2+")),
        ("Format-Specification: x\nLicense:  MIT \n", ("MIT",)),
        ("see /usr/share/common-licenses/LGPL-2.1, and `/usr/share/common-licenses/GPL'", ("LGPL-2.1", "GPL")),
        ("Format: x\n\nFiles: *\n", ()),
        ("all rights reserved", ()),
    ],
)
def test_licences_of_copyright_files(text: str, licenses: tuple[str, ...]) -> None:
    assert licenses_of(text) == licenses


@pytest.mark.system
def test_every_package_of_this_machine_is_found_as_dpkg_has_it(tmp_path: Path) -> None:
    shutil.copytree("/var/lib/dpkg", tmp_path / "var/lib/dpkg", ignore=shutil.ignore_patterns("*.list", "lock*"))
    for text in Path("/usr/share/doc").glob("*/copyright"):
        if text.is_file():
            target = tmp_path / str(text)[1:]
            target.parent.mkdir(parents=True)
            shutil.copyfile(text, target)
    shown = subprocess.run(
        ["dpkg-query", "--admindir", "/var/lib/dpkg", "-W", "-f", "${Package}\t${Version}\t${Architecture}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = scan(str(tmp_path))
    assert {f"{one.name}\t{one.version}\t{one.architecture}" for one in found.packages} == set(shown.splitlines())
    with_text = {path.parent.name for path in tmp_path.glob("usr/share/doc/*/copyright")}
    assert {one.name for one in found.packages if one.license_files} == {
        one.name for one in found.packages if one.name in with_text
    }
