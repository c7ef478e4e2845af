"""The script that installs system packages, asked what it would do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools/system-packages"


def listed(*words: str) -> list[str]:
    done = subprocess.run([SCRIPT, "--list", *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_demo_wants_a_part_of_what_the_tests_want() -> None:
    assert set(listed("demo")) < set(listed("test"))
    assert listed() == listed("test")


def test_a_word_it_does_not_know_is_refused() -> None:
    done = subprocess.run([SCRIPT, "everything"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "tools/system-packages: everything: not known\n")


@pytest.mark.system
def test_it_does_nothing_when_all_is_there() -> None:
    done = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.system
@pytest.mark.parametrize(
    "program",
    ["busybox", "crun", "docker-registry", "htpasswd", "mmdebstrap", "openssl", "podman", "runc", "skopeo", "umoci"],
)
def test_what_it_installs_is_there(program: str) -> None:
    assert shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
