"""Authorities in directories, and openssl to judge them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from knarr.pki.authority import Authority, Plan
from knarr.pki.names import Constraints, Names
from knarr.pki.settings import Subject, Use, Wanted

DAY_S = 86_400


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Authority]:
    """A new authority; `permit` limits it, `kind` is that of its keys."""

    def made(*permit: str, kind: str = "ecdsa-p256", between: bool = True, name: str = "ca") -> Authority:
        plan = Plan(Subject("Corp CA", "Corp"), kind, 3650 * DAY_S, 1000 * DAY_S * between, Constraints.parse(permit))
        return Authority.create(tmp_path / name, plan, now_s=time.time())

    return made


@pytest.fixture
def give(tmp_path: Path) -> Callable[..., Path]:
    """Have an authority make a certificate; the directory with its files."""
    from knarr.pki import issue

    def given(authority: Authority, *names: str, use: Use = Use.SERVER, kind: str = "ecdsa-p256") -> Path:
        place = authority.directory / "issued" / (names[0].replace("*", "_") if names else "nobody")
        wanted = Wanted(Subject(Names.parse(names).common_name), use, 90 * DAY_S)
        key = issue.make_key(kind)
        authority.issue(wanted, Names.parse(names), now_s=time.time(), key=key, place=place)
        return place

    return given


@pytest.fixture
def verified() -> Callable[..., str]:
    """What `openssl verify` says of a certificate in a directory: "OK", or its complaint."""

    def say(place: Path, *options: str) -> str:
        argv = ["openssl", "verify", "-CAfile", place / "ca.pem", "-untrusted", place / "cert.pem", *options]
        done = subprocess.run([*argv, place / "cert.pem"], capture_output=True, text=True)
        return "OK" if done.returncode == 0 and done.stdout.endswith(": OK\n") else done.stdout + done.stderr

    return say
