"""`knarr doctor` in every profile: what it finds, what is used, and how to get better."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.profiles import places

pytestmark = [pytest.mark.root, pytest.mark.system]

MakePlace = Callable[..., places.Place]


def examine(place: places.Place, *flags: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = place.knarr("doctor", "--format", "json", *flags)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert findings, done.stderr
    return done.returncode, {finding["subject"]: finding for finding in findings}


@pytest.mark.parametrize(
    ("profile", "snapshotter", "severity"),
    [
        ("root", "overlayfs", "ok"),
        ("user", "overlayfs", "ok"),
        ("container", "native", "limited"),
        ("restricted", "native", "limited"),
    ],
)
def test_it_says_what_holds_and_what_is_used(place: MakePlace, profile: str, snapshotter: str, severity: str) -> None:
    status, found = examine(place(profile))
    assert status == 0
    assert found["profile"]["found"].startswith(f"{profile} (")
    assert (found["profile"]["severity"], found["snapshotter"]["found"]) == (severity, snapshotter)
    assert found["linux/amd64"]["found"] == found["linux/386"]["found"] == "runs by itself"
    assert found["linux/arm64"]["found"] == "emulated"
    assert {finding["severity"] for finding in found.values()} <= {"ok", "limited"}


def test_what_is_missing_is_said_with_the_way_out(place: MakePlace) -> None:
    there = place("user", ids="")
    status, found = examine(there, "--strict")
    assert found["subordinate ids"]["severity"] == "limited"
    assert "usermod --add-subuids" in found["subordinate ids"]["better"]
    assert status == 3


def test_a_broken_login_file_is_wrong(place: MakePlace) -> None:
    there = place("user")
    (there.home / ".docker").mkdir()
    (there.home / ".docker/config.json").write_text("{")
    status, found = examine(there)
    assert (status, found["logins"]["severity"]) == (1, "wrong")


def test_the_table_is_for_people(place: MakePlace) -> None:
    done = place("container").knarr("doctor")
    assert done.returncode == 0
    assert "profile            container (root)\n" in done.stdout
    assert "used: root in a container that may not mount: steps run by chroot" in done.stdout
    wrong = place("root").knarr("doctor", "--format", "xml")
    assert (wrong.returncode, "--format=xml: not known" in wrong.stderr) == (2, True)
