"""Base images and archives that reach outside their root: refused or kept inside, and nothing outside is touched."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.aftermath import assert_nothing_left
from tests.engine.publish import LAYER, busybox, describe, entry, layer, publish
from tests.remote.fakeregistry import FakeRegistry

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py


@pytest.fixture
def far() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory whose content must not change."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "kept").write_text("kept")
    yield place
    assert [p.name for p in place.iterdir()] == ["kept"]
    assert (place / "kept").read_text() == "kept"
    assert os.stat(place / "kept").st_nlink == 1


SYMLINK = {"type": tarfile.SYMTYPE}
LINK = {"type": tarfile.LNKTYPE}


def build_on(knarr: Knarr, far: FakeRegistry, layout: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Any:
    """Build `FROM` an image whose second layer is hostile, with a RUN, so that it is unpacked."""
    publish(far, "hostile", [busybox(layout), layer(*entries)])
    return knarr.run(*knarr.command(f"FROM {far.host}/hostile\nRUN ls -lR /x || true\n"), check=False)


@pytest.mark.parametrize("name", ["../../../../../../../../{outside}/evil", "x/../../../../../../../../{outside}/evil"])
def test_a_file_whose_name_leads_out_is_refused(
    knarr: Knarr, far: FakeRegistry, busybox_layout: Path, outside: Path, name: str
) -> None:
    done = build_on(knarr, far, busybox_layout, entry(name.format(outside=outside), b"evil"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Dockerfile.test:2" in done.stderr
    assert "the name leads out of the root" in done.stderr.rpartition("error: ")[2]
    assert_nothing_left(knarr)


def test_a_file_with_an_absolute_name_lands_inside(
    knarr: Knarr, far: FakeRegistry, busybox_layout: Path, outside: Path
) -> None:
    done = build_on(knarr, far, busybox_layout, entry(f"{outside}/evil", b"evil"))
    assert done.returncode == 0, done.stderr
    assert_nothing_left(knarr)


@pytest.mark.parametrize("target", ["{outside}", "../../../../../../../../../..{outside}"])
def test_a_file_through_a_symlink_that_leads_out(
    knarr: Knarr, far: FakeRegistry, busybox_layout: Path, outside: Path, target: str
) -> None:
    link = entry("x", linkname=target.format(outside=outside), **SYMLINK)
    done = build_on(knarr, far, busybox_layout, link, entry("x/evil", b"evil"))
    assert "Traceback" not in done.stderr
    assert_nothing_left(knarr)


@pytest.mark.parametrize("target", ["../../../../../../../../../..{outside}/kept", "{outside}/kept"])
def test_a_hard_link_to_a_file_outside(
    knarr: Knarr, far: FakeRegistry, busybox_layout: Path, outside: Path, target: str
) -> None:
    done = build_on(knarr, far, busybox_layout, entry("x", linkname=target.format(outside=outside), **LINK))
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert_nothing_left(knarr)


def test_a_whiteout_of_something_outside(knarr: Knarr, far: FakeRegistry, busybox_layout: Path, outside: Path) -> None:
    link = entry("x", linkname=str(outside), **SYMLINK)
    done = build_on(knarr, far, busybox_layout, link, entry("x/.wh.kept"), entry("x/.wh..wh..opq"))
    assert "Traceback" not in done.stderr
    assert_nothing_left(knarr)


@pytest.mark.parametrize("name", [".wh...", "x/.wh..", ".wh."])
def test_a_whiteout_of_the_directory_itself_or_above(
    knarr: Knarr, far: FakeRegistry, busybox_layout: Path, outside: Path, name: str
) -> None:
    done = build_on(knarr, far, busybox_layout, entry("x", type=tarfile.DIRTYPE), entry(name))
    assert "Traceback" not in done.stderr
    assert_nothing_left(knarr)


def test_a_device_of_a_layer_is_only_a_device_there(knarr: Knarr, far: FakeRegistry, busybox_layout: Path) -> None:
    null = entry("x", type=tarfile.CHRTYPE, devmajor=1, devminor=5)
    done = build_on(knarr, far, busybox_layout, null)
    assert done.returncode == 0, done.stderr
    assert " 1,   5 " in done.stderr


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("cut", "the gzip stream is cut off"),
        ("garbage", "this is no tar"),
        ("not gzip", "this is no tar"),
        ("other", "the image config says"),
    ],
)
def test_a_layer_that_is_not_what_it_should_be(
    knarr: Knarr, far: FakeRegistry, busybox_layout: Path, what: str, said: str
) -> None:
    base = busybox(busybox_layout)
    wrong = {
        "cut": gzip.compress(base)[:-1000],
        "garbage": gzip.compress(bytes(range(256)) * 40),
        "not gzip": bytes(range(256)) * 40,
        "other": gzip.compress(layer(entry("another", b"another"))),
    }[what]
    described = describe(far, "wrong", wrong, LAYER)
    publish(far, "wrong", [base], layers=[described])
    done = knarr.run(*knarr.command(f"FROM {far.host}/wrong\nRUN true\n"), check=False)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "Dockerfile.test:2" in done.stderr
    told = done.stderr.rpartition("error: ")[2]
    assert said in told
    assert f"(layer {described['digest']}, image {far.host}/wrong" in told
    assert_nothing_left(knarr)


def test_a_context_from_standard_input_that_leads_out(knarr: Knarr, outside: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, data in (
            entry("Dockerfile", b"FROM busybox\nCOPY . /c\n"),
            entry("x", linkname=str(outside), **SYMLINK),
            entry("x/evil", b"evil"),
        ):
            tar.addfile(info, io.BytesIO(data))
    done = knarr.run("build", "-", stdin=buffer.getvalue(), check=False)
    assert "Traceback" not in done.stderr
    assert_nothing_left(knarr)


def test_an_archive_that_is_added_and_leads_out(knarr: Knarr, outside: Path) -> None:
    context = knarr.work / "context"
    context.mkdir()
    entries = (entry("x", linkname=str(outside), **SYMLINK), entry("x/evil", b"evil"), entry("../../../evil", b"evil"))
    (context / "a.tar").write_bytes(layer(*entries))
    done = knarr.run(*knarr.command("FROM busybox\nADD a.tar /a/b/\n"), check=False)
    assert "Traceback" not in done.stderr
    assert_nothing_left(knarr)
