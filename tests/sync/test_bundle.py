"""Bundles: what travels, what does not, volumes, interruptions and damage; by the commands themselves."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.reference import Reference
from tests.image.universe import Universe
from tests.remote.fakeregistry import FakeRegistry

Knarr = Callable[..., str]


@pytest.fixture
def sides() -> Iterator[tuple[FakeRegistry, FakeRegistry]]:
    """A registry here and one on the far side."""
    with ExitStack() as stack:
        yield stack.enter_context(FakeRegistry()), stack.enter_context(FakeRegistry(referrers=False))


@pytest.fixture
def at() -> Iterator[Callable[[str], Any]]:
    with Registry(RegistrySettings(hosts_dirs=()), lambda _: Credentials()) as client:
        yield lambda name: client.repository(Reference.parse(name))


def test_a_bundle_carries_everything_in_volumes(
    sides: tuple[FakeRegistry, FakeRegistry], at: Callable[[str], Any], knarr: Knarr, tmp_path: Path
) -> None:
    here, far = sides
    first, second = Universe("first"), Universe("second")
    first.push_to(at(f"{here.host}/team/first"), "1")
    second.push_to(at(f"{here.host}/team/second"), "2")
    prefix = str(tmp_path / "usb" / "images")

    said = knarr(
        *("bundle", "create", "-o", prefix, "--volume-size", "64K"),
        *(f"{here.host}/team/first:1", f"{here.host}/team/second:2"),
    )
    volumes = sorted((tmp_path / "usb").glob("images.bundle.0*"))
    assert f"2 images in {len(volumes)} volumes" in said
    assert len(volumes) > 2
    assert all(volume.stat().st_size <= 64 << 10 for volume in volumes)
    assert not (tmp_path / "usb/images.bundle.making").exists()

    knarr("bundle", "load", "--to", f"{far.host}/mirror", prefix)
    first.assert_at(at(f"{far.host}/mirror/team/first"), "1")
    second.assert_at(at(f"{far.host}/mirror/team/second"), "2")


def test_what_the_far_side_has_stays_here_and_is_mounted_there(
    sides: tuple[FakeRegistry, FakeRegistry], at: Callable[[str], Any], knarr: Knarr, tmp_path: Path
) -> None:
    here, far = sides
    old, new = Universe("same"), Universe("same")
    new.artifact("application/x-new", b"new", new.index)
    old.push_to(at(f"{far.host}/kept/app"), "1")
    new.push_to(at(f"{here.host}/team/app"), "2")
    inventory, prefix = str(tmp_path / "inventory.json"), str(tmp_path / "delta")

    knarr("bundle", "inventory", "-o", inventory, f"{far.host}/kept/app")
    said = knarr("bundle", "create", "-o", prefix, "--since", inventory, f"{here.host}/team/app:2")
    assert "1 blobs, 18 left out" in said

    knarr("bundle", "load", "--to", far.host, prefix)
    new.assert_at(at(f"{far.host}/team/app"), "2")
    mounted = [seen for seen in far.requests("POST") if "mount" in seen.query]
    assert {seen.query["from"][0] for seen in mounted} == {"kept/app"}


def test_the_list_of_a_bundle_is_an_inventory_for_the_next(
    sides: tuple[FakeRegistry, FakeRegistry], at: Callable[[str], Any], knarr: Knarr, tmp_path: Path
) -> None:
    here, far = sides
    universe = Universe()
    universe.push_to(at(f"{here.host}/team/app"), "1")
    knarr("bundle", "create", "-o", str(tmp_path / "one"), f"{here.host}/team/app:1")
    knarr("bundle", "load", "--to", far.host, str(tmp_path / "one.bundle.json"))
    universe.push_to(at(f"{here.host}/team/app"), "2")

    list_of_first = str(tmp_path / "one.bundle.json")
    said = knarr("bundle", "create", "-o", str(tmp_path / "two"), "--since", list_of_first, f"{here.host}/team/app:2")
    assert "0 blobs, " in said
    knarr("bundle", "load", "--to", far.host, str(tmp_path / "two"))
    universe.assert_at(at(f"{far.host}/team/app"), "2")


def test_a_bundle_for_another_place_says_so(
    sides: tuple[FakeRegistry, FakeRegistry], at: Callable[[str], Any], knarr: Knarr, tmp_path: Path
) -> None:
    here, far = sides
    universe = Universe()
    universe.push_to(at(f"{here.host}/team/app"), "1")
    knarr("bundle", "create", "-o", str(tmp_path / "one"), f"{here.host}/team/app:1")
    since = str(tmp_path / "one.bundle.json")
    knarr("bundle", "create", "-o", str(tmp_path / "two"), "--since", since, f"{here.host}/team/app:1")

    said = knarr("bundle", "load", "--to", far.host, str(tmp_path / "two"), status=1)

    assert "make it with an inventory of the right one" in said
    assert far.tags == {}


def test_an_interrupted_bundle_goes_on_with_the_volume_it_was_at(
    sides: tuple[FakeRegistry, FakeRegistry], at: Callable[[str], Any], knarr: Knarr, tmp_path: Path
) -> None:
    here, far = sides
    universe = Universe()
    layer = universe.add_layer(1 << 20)
    universe.push_to(at(f"{here.host}/team/app"), "1")
    prefix = str(tmp_path / "images")
    argv = ("bundle", "create", "-o", prefix, "--volume-size", "256K", f"{here.host}/team/app:1")
    here.fail("GET", f"/blobs/{layer}", skip=2, times=99, status=403)

    assert "denied" in knarr(*argv, status=1)
    assert not (tmp_path / "images.bundle.json").exists()
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("images.bundle.0*")}
    assert sorted(made) == ["images.bundle.000", "images.bundle.001"][: len(made)] != []
    here.forgive()
    here.seen.clear()
    knarr(*argv)

    kept = {name: (tmp_path / name).stat().st_mtime_ns for name in made}
    assert kept == made
    assert all("range" in seen.headers for seen in here.requests("GET", f"/blobs/{layer}")[1::2])
    knarr("bundle", "load", "--to", far.host, prefix)
    universe.assert_at(at(f"{far.host}/team/app"), "1")


def test_damage_and_gaps_are_named_before_anything_is_loaded(
    sides: tuple[FakeRegistry, FakeRegistry], at: Callable[[str], Any], knarr: Knarr, tmp_path: Path
) -> None:
    here, far = sides
    Universe().push_to(at(f"{here.host}/team/app"), "1")
    prefix = str(tmp_path / "images")
    knarr("bundle", "create", "-o", prefix, "--volume-size", "64K", f"{here.host}/team/app:1")
    second = tmp_path / "images.bundle.001"
    data = second.read_bytes()
    second.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    assert "damaged: images.bundle.001" in knarr("bundle", "load", "--to", far.host, prefix, status=1)
    second.unlink()
    assert "there is no images.bundle.001" in knarr("bundle", "load", "--to", far.host, prefix, status=1)
    assert far.seen == []


@pytest.mark.system
def test_the_volumes_together_are_a_layout_that_skopeo_reads(
    sides: tuple[FakeRegistry, FakeRegistry], at: Callable[[str], Any], knarr: Knarr, tmp_path: Path
) -> None:
    here, _ = sides
    universe = Universe()
    universe.push_to(at(f"{here.host}/team/app"), "1")
    knarr("bundle", "create", "-o", str(tmp_path / "x"), "--volume-size", "64K", f"{here.host}/team/app:1")
    whole = tmp_path / "whole.tar"
    whole.write_bytes(b"".join(path.read_bytes() for path in sorted(tmp_path.glob("x.bundle.0*"))))

    command = ["skopeo", "--insecure-policy", "inspect", "--raw", f"oci-archive:{whole}:1"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == universe.index.raw
    with tarfile.open(whole) as tar:
        assert "index.json" in tar.getnames()
    listed = knarr("bundle", "load", "--list", str(tmp_path / "x"))
    assert listed == f"{here.host}/team/app:1@{universe.root.digest}\n"
    assert json.loads((tmp_path / "x.bundle.json").read_text())["images"] == {
        f"{here.host}/team/app:1": universe.root.digest
    }


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("create", "a.example/b:1"), "needs --output"),
        (("create", "-o", "x"), "needs images"),
        (("create", "-o", "x", "--volume-size", "big", "a.example/b:1"), "must be a size"),
        (("create", "-o", "x", "--since", "none.json", "a.example/b:1"), "No such file"),
        (("load", "x"), "--to PLACE"),
        (("load", "--to", "a.example", "none"), "No such file"),
        (("elsewhere",), "not known"),
    ],
)
def test_mistakes_are_told(argv: tuple[str, ...], words: str, knarr: Knarr) -> None:
    assert words in knarr("bundle", *argv, status=2)
