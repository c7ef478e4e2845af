"""When registries are asked for base images, and what happens when they do not answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

TEXT = "FROM busybox\nRUN echo built > /out\n"


@pytest.fixture
def offline(knarr: Knarr, tmp_path: Path) -> Knarr:
    """The same command and the same state, where docker.io leads to nobody."""
    hosts = tmp_path / "offline"
    (hosts / "docker.io").mkdir(parents=True)
    (hosts / "docker.io/hosts.toml").write_text('server = "http://127.0.0.1:9"\n')
    other = type(knarr)(knarr.root, hosts, knarr.work)
    other.env.update(knarr.env, KNARR_HOSTS_DIR=str(hosts))
    return other


def refusal(knarr: Knarr, *options: str, text: str = TEXT) -> str:
    done = knarr.run(*knarr.command(text, *options), check=False)
    assert done.returncode == 1
    assert "Dockerfile.test:1" in done.stderr
    return str(done.stderr)


def test_without_a_network_a_build_goes_on_from_what_was_last_seen(knarr: Knarr, offline: Knarr) -> None:
    knarr.run(*knarr.command(TEXT))
    again = offline.run(*offline.command(TEXT)).stderr
    assert "CACHED" in again
    assert "nothing listens at 127.0.0.1:9; as last seen: sha256:" in again
    changed = offline.build("FROM busybox\nRUN echo new > /out\n")
    assert changed.contents["out"] == b"new\n"


def test_always_wants_an_answer(knarr: Knarr, offline: Knarr) -> None:
    knarr.run(*knarr.command(TEXT))
    for flag in ("--pull", "--pull=always", "--pull=true"):
        assert "nothing listens at 127.0.0.1:9" in refusal(offline, flag)
    offline.run(*offline.command(TEXT, "--pull=false"))


@pytest.mark.parametrize("flag", ["--pull=missing", "--pull=never"])
def test_what_is_here_is_not_asked_for(knarr: Knarr, offline: Knarr, flag: str) -> None:
    knarr.run(*knarr.command(TEXT))
    for _ in range(2):
        told = offline.run(*offline.command(TEXT, flag)).stderr
        assert "CACHED" in told
        assert "nothing listens" not in told


def test_what_is_missing_is_asked_for_or_refused(knarr: Knarr, offline: Knarr) -> None:
    told = refusal(knarr, "--pull=never")
    assert "error: busybox:latest: not, or not all of it, on this machine" in told
    assert "hint: --pull=missing lets knarr ask the registry for it" in told
    assert "nothing listens" in refusal(offline, "--pull=missing")
    assert knarr.build(TEXT, "--pull=missing").contents["out"] == b"built\n"


def test_never_does_not_take_layers_that_are_elsewhere(knarr: Knarr) -> None:
    knarr.run(*knarr.command("FROM busybox\nLABEL a=b\n"), "-o", "type=cacheonly")  # needs no layer
    assert "not, or not all of it" in refusal(knarr, "--pull=never")


def test_an_image_that_was_built_here_is_a_base_without_a_registry(knarr: Knarr, offline: Knarr) -> None:
    knarr.run(*knarr.command(TEXT, "-t", "mine:1"))
    for flag in ("--pull=false", "--pull=missing", "--pull=never"):
        image = offline.build("FROM mine:1\nRUN cat /out > /again\n", flag)
        assert image.contents["again"] == b"built\n"
    assert "nothing listens" in refusal(offline, "--pull", text="FROM mine:1\n")


def test_missing_keeps_what_it_has_when_the_tag_moves(knarr: Knarr, bases: Any, tmp_path: Path) -> None:
    def publish(text: str) -> None:
        builder = type(knarr)(tmp_path / f"state-{text}", Path(knarr.env["KNARR_HOSTS_DIR"]), tmp_path)
        builder.run(*builder.command(f"FROM busybox\nRUN echo {text} > /v\n", "-t", f"{bases.address}/moves", "--push"))

    use = f"FROM {bases.address}/moves\nRUN cat /v > /out\n"
    publish("one")
    assert knarr.build(use).contents["out"] == b"one\n"
    publish("two")
    assert knarr.build(use, "--pull=missing").contents["out"] == b"one\n"
    assert knarr.build(use).contents["out"] == b"two\n"


def test_notes_that_are_damaged_are_no_notes(knarr: Knarr, offline: Knarr) -> None:
    knarr.run(*knarr.command(TEXT))
    for note in (knarr.root / "resolved").iterdir():
        note.write_text("{")
    assert "nothing listens" in refusal(offline)
    shutil.rmtree(knarr.root / "resolved")
    assert "nothing listens" in refusal(offline)
    knarr.run(*knarr.command(TEXT))
    offline.run(*offline.command(TEXT))


def test_a_mirror_is_asked_before_the_registry(knarr: Knarr, bases: Any, tmp_path: Path) -> None:
    hosts = tmp_path / "mirrored"
    (hosts / "docker.io").mkdir(parents=True)
    (hosts / "docker.io/hosts.toml").write_text(
        f'server = "http://127.0.0.1:9"\n[host."http://{bases.address}"]\n  capabilities = ["pull", "resolve"]\n'
    )
    knarr.env["KNARR_HOSTS_DIR"] = str(hosts)
    assert knarr.build(TEXT, "--pull").contents["out"] == b"built\n"


def test_words_that_are_no_time_to_pull(knarr: Knarr) -> None:
    done = knarr.run("build", "--pull=sometimes", ".", check=False)
    assert done.returncode == 2
    assert "error: --pull=sometimes: not known\nhint: use one of: always, missing, never" in done.stderr
