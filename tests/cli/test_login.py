"""`knarr login` and `knarr logout` against a real docker-registry, skopeo reading what they keep."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.cli import login, logout
from knarr.errors import RegistryError, UsageError

pytestmark = pytest.mark.system


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry that knows ann; gives its host."""
    assert shutil.which("docker-registry"), "Debian's docker-registry is missing: apt-get install docker-registry"
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    made = subprocess.run(["htpasswd", "-Bbn", "ann", "s3cret"], check=True, capture_output=True)
    (tmp_path / "htpasswd").write_bytes(made.stdout)
    (tmp_path / "config.yml").write_text(
        f"""version: 0.1
log: {{accesslog: {{disabled: true}}, level: warn}}
storage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: test, path: {tmp_path}/htpasswd}}}}
"""
    )
    quiet = subprocess.DEVNULL
    with subprocess.Popen(["docker-registry", "serve", tmp_path / "config.yml"], stdout=quiet, stderr=quiet) as process:
        for _ in range(200):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"127.0.0.1:{port}"
        process.kill()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The login file of a user who has nothing else."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "KNARR_HOSTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


def test_a_login_is_checked_kept_used_by_skopeo_and_forgotten(
    registry: str, kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))

    assert login.run(["-u", "ann", "--password-stdin", registry]) == 0
    assert f"Login to {registry} succeeded" in capsys.readouterr().out
    assert registry in json.loads(kept.read_text())["auths"]
    listing = ["skopeo", "list-tags", "--tls-verify=false", f"--authfile={kept}", f"docker://{registry}/app"]
    # 404 and not 401: skopeo found the login, and nothing was pushed yet.
    assert "404" in subprocess.run(listing, capture_output=True, text=True, check=False).stderr

    assert logout.run([registry]) == 0
    assert json.loads(kept.read_text())["auths"] == {}
    assert logout.run([registry]) == 0
    assert f"not logged in to {registry}" in capsys.readouterr().err


def test_a_wrong_password_is_refused_and_not_kept(registry: str, kept: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        login.run(["-u", "ann", "-p", "mistyped", registry])
    assert caught.value.status == 401
    assert "mistyped" not in caught.value.render()
    assert not kept.exists()


def test_a_password_on_the_command_line_is_warned_about(
    registry: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert login.run(["-u", "ann", "-p", "s3cret", registry]) == 0
    assert "--password-stdin" in capsys.readouterr().err
    assert kept.exists()


def test_without_a_terminal_a_password_must_be_given(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UsageError, match="no password given"):
        login.run(["-u", "ann", "r.example"])


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("r.example", "r.example"),
        ("https://r.example:5000/", "r.example:5000"),
        ("index.docker.io", "docker.io"),
        ("registry", "registry"),
    ],
)
def test_the_host_is_found_in_what_was_written(text: str, host: str) -> None:
    assert login.host_of(text) == host


@pytest.mark.parametrize("text", ["r.example/team", "a b", ""])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        login.host_of(text)
