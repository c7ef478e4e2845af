"""`knarr sbom` as it is called: on directories and on layouts, in every form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from knarr.cli import main

STATUS = "Package: app\nStatus: install ok installed\nVersion: 1.0\nArchitecture: all\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path / "state"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path = tmp_path / "tree/var/lib/dpkg"
    path.mkdir(parents=True)
    (path / "status").write_text(STATUS)
    return tmp_path / "tree"


def test_a_directory_as_a_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sbom", str(root)]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["NAME", "VERSION", "TYPE", "LICENSE"],
        ["app", "1.0", "deb", "-"],
    ]


@pytest.mark.parametrize(
    ("form", "key", "value"),
    [
        ("spdx-json", "spdxVersion", "SPDX-2.3"),
        ("cyclonedx-json", "specVersion", "1.6"),
        ("cyclonedx-json@1.5", "specVersion", "1.5"),
    ],
)
def test_documents_are_written_whole_and_always_the_same(
    root: Path, tmp_path: Path, form: str, key: str, value: str
) -> None:
    made = [tmp_path / "one", tmp_path / "two"]
    for path in made:
        assert main(["sbom", f"dir:{root}", "--format", form, "-o", str(path)]) == 0
    assert made[0].read_bytes() == made[1].read_bytes()
    assert json.loads(made[0].read_text())[key] == value


def test_what_is_not_read_is_a_warning(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "a.jar").write_text("PK")
    assert main(["sbom", str(root)]) == 0
    assert capsys.readouterr().err.startswith("warning: not read: a.jar: cannot be read as an archive")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 2, "needs one image or directory"),
        (["/nowhere/at/all"], 1, "/nowhere/at/all: No such file or directory"),
        (["oci:/nowhere"], 1, "/nowhere"),
        (["--format", "xml", "."], 2, "--format xml: not known"),
        (["--platform", "linux/arm64", "."], 2, "--platform is for images"),
    ],
)
def test_what_cannot_be_scanned_is_told(
    root: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, text: str
) -> None:
    assert main(["sbom", *words]) == status
    assert text in capsys.readouterr().err


@pytest.mark.root
@pytest.mark.system
def test_an_image_is_unpacked_once_and_known_by_its_digest_then(
    root: Path, busybox_layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from shutil import copytree

    layout = copytree(busybox_layout, root.parent / "layout")
    assert main(["sbom", f"oci:{layout}", "--format", "spdx-json", "--platform", "linux/arm64"]) == 0
    first = capsys.readouterr().out
    config = {path.name for path in (layout / "blobs/sha256").iterdir() if path.stat().st_size > 100_000}
    assert config
    for name in config:  # the layers are not needed again
        (layout / "blobs/sha256" / name).unlink()
    assert main(["sbom", f"oci:{layout}", "--format", "spdx-json", "--platform", "linux/arm64"]) == 0
    assert capsys.readouterr().out == first
