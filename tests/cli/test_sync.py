"""`knarr sync` as a command: three forms of file, what it prints, and the process that stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.image.reshape import ATTESTATION_TYPE
from knarr.image.successors import read_document
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.manifest import Index
from knarr.spec.reference import Reference
from tests.image.universe import Universe
from tests.remote.fakeregistry import FakeRegistry

Knarr = Callable[..., str]


@pytest.fixture
def source() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def target() -> Iterator[FakeRegistry]:
    with FakeRegistry(referrers=False) as registry:
        yield registry


@pytest.fixture
def at() -> Iterator[Callable[[str], Any]]:
    with Registry(RegistrySettings(hosts_dirs=()), lambda _: Credentials()) as client:
        yield lambda name: client.repository(Reference.parse(name))


@pytest.fixture
def apps(source: FakeRegistry, at: Callable[[str], Any]) -> dict[str, Universe]:
    found = {tag: Universe(tag) for tag in ("1.0", "1.1")}
    for tag, universe in found.items():
        universe.push_to(at(f"{source.host}/team/app"), tag)
    return found


def test_our_form_twice(
    source: FakeRegistry,
    target: FakeRegistry,
    apps: dict[str, Universe],
    at: Callable[[str], Any],
    knarr: Knarr,
    tmp_path: Path,
) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text(f'[[sync]]\nsource = "{source.host}/team/app"\ntarget = "{target.host}/app"\n')

    assert "2 would copy" in knarr("sync", "--dry-run", str(file))
    assert target.tags == {}
    assert "2 images: 2 copied" in knarr("sync", str(file))
    for tag, universe in apps.items():
        universe.assert_at(at(f"{target.host}/app"), tag)
    assert "2 images: 2 unchanged" in knarr("sync", str(file))
    rows = [json.loads(line) for line in knarr("sync", "-q", "--format", "json", str(file)).splitlines()]
    assert {row["result"] for row in rows} == {"unchanged"}
    assert {row["digest"] for row in rows} == {universe.root.digest for universe in apps.values()}


def test_regsyncs_form(
    source: FakeRegistry,
    target: FakeRegistry,
    apps: dict[str, Universe],
    at: Callable[[str], Any],
    knarr: Knarr,
    tmp_path: Path,
) -> None:
    file = tmp_path / "regsync.yml"
    file.write_text(
        f"version: 1\ncreds: [{{registry: '{source.host}', tls: disabled}}]\ndefaults: {{parallel: 2}}\nsync:\n"
        f"  - source: {source.host}/team/app\n    target: {target.host}/app\n    type: repository\n"
        "    tags: {allow: ['1\\.1']}\n"
    )
    assert "1 images: 1 copied" in knarr("sync", str(file))
    apps["1.1"].assert_at(at(f"{target.host}/app"), "1.1")


def test_skopeos_form(
    source: FakeRegistry,
    target: FakeRegistry,
    apps: dict[str, Universe],
    at: Callable[[str], Any],
    knarr: Knarr,
    tmp_path: Path,
) -> None:
    file = tmp_path / "sync.yml"
    file.write_text(f"'{source.host}':\n  tls-verify: false\n  images-by-semver:\n    team/app: '>= 1.1'\n")

    assert "does not say where to" in knarr("sync", str(file), status=2)
    assert "1 images: 1 copied" in knarr("sync", "--to", f"{target.host}/repo", str(file))
    apps["1.1"].assert_at(at(f"{target.host}/repo/app"), "1.1")


def test_attestations_of_every_task_go_where_the_command_line_says(
    source: FakeRegistry,
    target: FakeRegistry,
    apps: dict[str, Universe],
    at: Callable[[str], Any],
    knarr: Knarr,
    tmp_path: Path,
) -> None:
    file = tmp_path / "sync.yml"
    file.write_text(f"'{source.host}':\n  tls-verify: false\n  images-by-semver:\n    team/app: '>= 1.1'\n")
    argv = ("sync", "--to", f"{target.host}/repo", "--attestations")

    knarr(*argv, "referrers", str(file))

    place = at(f"{target.host}/repo/app")
    root = read_document(place, place.resolve("1.1"))
    assert isinstance(root, Index)
    assert [str(entry.platform) for entry in root.manifests] == ["linux/amd64", "linux/arm64"]
    assert len(place.predecessors(apps["1.1"].arm64.descriptor.bare(), ATTESTATION_TYPE)) == 2
    assert "use one of: keep" in knarr(*argv, "elsewhere", str(file), status=2)


def test_a_failure_is_told_in_the_end_and_by_the_exit_status(
    source: FakeRegistry, target: FakeRegistry, apps: dict[str, Universe], knarr: Knarr, tmp_path: Path
) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text(
        f'[[sync]]\nsource = "{source.host}/team/app"\ntarget = "{target.host}/app"\n'
        f'[[sync]]\nsource = "{source.host}/no/such:1"\ntarget = "{target.host}/x"\n'
    )
    said = knarr("sync", str(file), status=1)
    assert "3 images: 2 copied, 1 failed" in said
    assert f"error: {source.host}/no/such:1 → {target.host}/x:1: " in said


def test_a_login_of_the_file_is_used(
    source: FakeRegistry, apps: dict[str, Universe], knarr: Knarr, tmp_path: Path
) -> None:
    with FakeRegistry(login=("robot", "secret")) as closed:
        file = tmp_path / "mirror.toml"
        text = f'[[sync]]\nsource = "{source.host}/team/app:1.0"\ntarget = "{closed.host}/app"\n'
        file.write_text(text)
        assert "login required" in knarr("sync", str(file), status=1)
        file.write_text(f'{text}[registry."{closed.host}"]\nusername = "robot"\npassword = "secret"\n')
        assert "1 images: 1 copied" in knarr("sync", str(file))


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_stays_follows_its_file_and_tells_metrics(
    source: FakeRegistry, target: FakeRegistry, apps: dict[str, Universe], tmp_path: Path
) -> None:
    file, log = tmp_path / "mirror.toml", tmp_path / "log"
    text = f'[[sync]]\nsource = "{source.host}/team/app:1.0"\ntarget = "{target.host}/app"\ninterval = "1h"\n'
    file.write_text(text)
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state"), "DOCKER_CONFIG": str(tmp_path)}
    command = [sys.executable, "-m", "knarr", "sync", "--watch", "--metrics", "127.0.0.1:0", str(file)]
    with open(log, "wb") as out, subprocess.Popen(command, env=env, stdout=out, stderr=out) as process:
        try:
            until(lambda: ("app", "1.0") in target.tags)
            file.write_text("[[sync]]\nsource = 3\n")  # a slip: what was before stays in force
            until(lambda: "stays in force" in log.read_text())
            file.write_text(text + text.replace("1.0", "1.1"))
            until(lambda: ("app", "1.1") in target.tags)
            port = log.read_text().partition("metrics at port ")[2].split()[0]
            until(lambda: 'result="copied"} 2' in metrics(port))
            assert 'knarr_sync_reloads_total{result="failed"} 1' in metrics(port)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 143
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()


def metrics(port: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("sync",), "needs one file"),
        (("sync", "no-such-file.toml"), "No such file"),
        (("sync", "--metrics", ":9090", "x.toml"), "--metrics is for --watch"),
        (("sync", "--format", "xml", "x.toml"), "not known"),
    ],
)
def test_mistakes_are_told(argv: tuple[str, ...], words: str, knarr: Knarr) -> None:
    assert words in knarr(*argv, status=2)
