"""Source policies in builds, by the real command and by buildx against the daemon."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.conftest import running
from tests.interop.test_signatures import programs  # noqa: F401  # a fixture
from tests.ops.servers import FileServer, Page, file_server

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py
BUSYBOX = "docker-image://docker.io/library/busybox:latest"


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def write(path: Path, *rules: tuple[str, str, dict[str, Any] | None]) -> str:
    """A policy of wildcard rules: action, identifier, updates."""
    made = [
        {"action": action, "selector": {"identifier": identifier}, **({"updates": updates} if updates else {})}
        for action, identifier, updates in rules
    ]
    path.write_text(json.dumps({"version": 1, "rules": made}))
    return str(path)


def test_a_denied_image_is_neither_a_base_nor_copied_from(knarr: Knarr, tmp_path: Path) -> None:
    policy = write(tmp_path / "p.json", ("DENY", "docker-image://docker.io/library/busybox:*", None))
    for text in ("FROM busybox\n", "FROM scratch\nCOPY --from=busybox /bin/busybox /\n"):
        done = knarr.run(*knarr.command(text, "--source-policy-file", policy), check=False)
        assert done.returncode == 1
        assert f"error: source denied by policy: {BUSYBOX}" in done.stderr
        assert "Dockerfile.test:" in done.stderr
    check = knarr.command("FROM busybox\n", "--check", "--source-policy-file", policy)
    assert "source denied by policy" in knarr.run(*check, check=False).stderr
    knarr.env["EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"] = policy
    assert "source denied by policy" in knarr.run(*knarr.command("FROM busybox\n"), check=False).stderr
    knarr.build("FROM scratch\nCOPY . /\n")


def test_an_image_becomes_another(knarr: Knarr, bases: Any, tmp_path: Path) -> None:
    there = f"{bases.address}/library/busybox:latest"
    policy = write(
        tmp_path / "p.json",
        ("CONVERT", "docker-image://docker.io/no/such:*", {"identifier": f"docker-image://{there}"}),
        ("DENY", "docker-image://docker.io/*", None),
    )
    text = "FROM no/such:1\nRUN echo hello > /hello\nFROM no/such:2\nCOPY --from=0 /hello /\n"
    image = knarr.build(text, "--source-policy-file", policy)
    assert image.contents["hello"] == b"hello\n"
    plain = knarr.build(text.replace("no/such:1", there).replace("no/such:2", there))
    assert plain.files.keys() == image.files.keys()


def test_a_url_gets_a_checksum(knarr: Knarr, files: FileServer, tmp_path: Path) -> None:
    files.pages["/f"] = Page(b"one")
    text = f"FROM scratch\nADD {files.url('/f')} /f\n"
    digest = f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    pin = ("CONVERT", files.url("/*"), {"attrs": {"http.checksum": digest}})
    policy = write(tmp_path / "p.json", pin)
    assert knarr.build(text, "--source-policy-file", policy).contents == {"f": b"one"}
    files.pages["/f"] = Page(b"two")
    done = knarr.run(*knarr.command(text, "--no-cache", "--source-policy-file", policy), check=False)
    assert done.returncode == 1 or knarr.build(text, "--source-policy-file", policy).contents == {"f": b"one"}
    policy = write(tmp_path / "p.json", pin, ("DENY", "http://*", None))
    assert (
        "source denied by policy: http://"
        in knarr.run(*knarr.command(text, "--source-policy-file", policy), check=False).stderr
    )


def test_a_policy_that_changed_is_seen_though_nothing_else_did(knarr: Knarr, tmp_path: Path) -> None:
    policy = write(tmp_path / "p.json", ("ALLOW", "*", None))
    command = knarr.command("FROM busybox\nRUN true\n", "-t", "app", "--source-policy-file", policy)
    knarr.run(*command)
    knarr.run(*command)
    write(tmp_path / "p.json", ("DENY", "*", None))
    assert "source denied by policy" in knarr.run(*command, check=False).stderr


def test_buildx_hands_its_policy_to_the_daemon(
    bases: Any,
    tmp_path: Path,
    programs: Callable[[str], str],  # noqa: F811
) -> None:
    buildx = shutil.which("docker-buildx") or programs("docker-buildx")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\n")
    policy = tmp_path / "p.json"
    env = {
        **os.environ,
        "BUILDX_CONFIG": str(tmp_path / "buildx"),
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": str(policy),
    }

    def call(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([buildx, *argv], env=env, capture_output=True, text=True, timeout=120)

    with running(tmp_path / "daemon", environ={"KNARR_HOSTS_DIR": str(bases.hosts_dir)}) as daemon:
        call("create", "--name", "knarr", "--driver", "remote", f"unix://{daemon.socket}").check_returncode()
        build = ("build", "--builder", "knarr", "--progress", "plain", str(context))
        write(policy, ("DENY", "docker-image://*", None))
        denied = call(*build)
        assert denied.returncode != 0
        assert "source denied by policy" in denied.stderr
        assert ">>> FROM busybox" in denied.stderr
        write(policy, ("DENY", "docker-image://*", None), ("ALLOW", f"{BUSYBOX}*", None))
        done = call(*build)
        assert done.returncode == 0, done.stderr
        (context / "Dockerfile").write_text("FROM no/such\n")
        write(policy, ("CONVERT", "docker-image://docker.io/no/such:*", {"identifier": BUSYBOX}))
        done = call(*build)
        assert done.returncode == 0, done.stderr
