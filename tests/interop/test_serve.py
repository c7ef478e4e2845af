"""`knarr serve`: buildx builds into its registry, and skopeo takes from it, over TLS and with logins."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.conftest import Running, running
from tests.interop.conftest import run
from tests.registry.pki import Authority

pytestmark = [pytest.mark.root, pytest.mark.system]

TWO = "linux/amd64,linux/arm64"


@dataclass
class Served:
    """A running `knarr serve`, and how to be its client."""

    process: Running
    host: str  # of the registry
    watch: str  # of its metrics
    certificates: Path
    program: str
    home: Path

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.watch}/metrics") as answer:
            return str(answer.read().decode())

    def buildx(self, *words: str | Path, user: str = "alice:secret", fails: bool = False) -> str:
        """Run buildx with a login; its progress."""
        config = self.home / f"docker-{user.partition(':')[0]}"
        config.mkdir(exist_ok=True)
        login = {"auth": base64.b64encode(user.encode()).decode()}
        (config / "config.json").write_text(json.dumps({"auths": {self.host: login} if user else {}}))
        environ = {
            **os.environ,
            "DOCKER_CONFIG": str(config),
            "BUILDX_CONFIG": str(self.home / "buildx"),
            "BUILDX_BUILDER": "served",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
            "BUILDX_BAKE_ENTITLEMENTS_FS": "0",  # newer ones ask for leave to read the context
        }
        done = subprocess.run(
            [self.program, *map(str, words)], env=environ, capture_output=True, text=True, timeout=180, check=False
        )
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr

    def skopeo(self, command: str, name: str, *words: str | Path) -> str:
        trust = ("--cert-dir" if command == "inspect" else "--src-cert-dir", str(self.certificates))
        login = ("--creds" if command == "inspect" else "--src-creds", "alice:secret")
        return run(
            "skopeo", "--override-arch", "arm64", command, *trust, *login, f"docker://{self.host}/{name}", *words
        )


@pytest.fixture(scope="module")
def served(bases: Any, buildx_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("serve")
    certificate, key = Authority(home / "pki").issue("localhost")
    trust = home / "trust"
    trust.mkdir()
    (trust / "ca.crt").write_bytes((home / "pki/ca.pem").read_bytes())
    run("htpasswd", "-Bbc", "-C4", home / "htpasswd", "alice", "secret")
    (home / "serve.toml").write_text(
        f'[serve]\nlisten = "127.0.0.1:0"\nnames = ["registry.corp.example"]\n'
        f'[serve.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n[serve.auth]\nhtpasswd = "htpasswd"\n'
    )
    flags = ("--config", str(home / "serve.toml"), "--debugaddr", "127.0.0.1:0")
    environ = {"KNARR_HOSTS_DIR": str(bases.hosts_dir)}
    with running(home / "root", *flags, environ=environ, command="serve") as process:
        said = process.log.read_text()
        port = re.search(r"serving https://127\.0\.0\.1:(\d+)/v2/", said)
        watch = re.search(r"metrics at http://(\S+)/metrics", said)
        assert port, said
        assert watch, said
        found = Served(process, f"localhost:{port[1]}", watch[1], trust, buildx_program, home)
        found.buildx("create", "--name", "served", "--driver", "remote", f"unix://{process.socket}")
        yield found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "hello").write_text(f"hello {tmp_path}\n")
    (directory / "Dockerfile").write_text("FROM busybox\nCOPY hello /\nRUN cat hello hello > /twice\n")
    return directory


def test_a_pushed_build_is_a_tag_and_nothing_was_sent(served: Served, context: Path, tmp_path: Path) -> None:
    name = f"{served.host}/team/app:1"
    served.buildx("build", "--platform", TWO, "-t", name, "--push", context)
    assert 'endpoint="upload' not in served.metrics()
    assert 'knarr_registry_events_total{action="push"}' in served.metrics()
    served.skopeo("copy", "team/app:1", "--multi-arch=all", f"dir:{tmp_path}/taken")
    index = json.loads((tmp_path / "taken/manifest.json").read_text())
    assert [found["platform"]["architecture"] for found in index["manifests"]] == ["amd64", "arm64"]


def test_probes_tell_that_it_is_ready(served: Served) -> None:
    for page in ("healthz", "readyz"):
        with urllib.request.urlopen(f"http://{served.watch}/{page}") as answer:
            assert (answer.status, answer.read()) == (200, b"ok\n")


def test_it_may_have_other_names(served: Served, context: Path) -> None:
    served.buildx(
        "build", "-t", "registry.corp.example/other:1", "--push", context, user="alice:secret", fails=True
    )  # no login for that name
    auth = ("--set", "*.output=type=registry")
    (context / "bake.json").write_text(
        json.dumps({"target": {"default": {"context": str(context), "tags": [f"{served.host}/baked:1"]}}})
    )
    served.buildx("bake", "-f", context / "bake.json", *auth)
    assert json.loads(served.skopeo("inspect", "baked:1", "--raw"))["schemaVersion"] == 2


def test_what_was_built_here_is_a_base_here(served: Served, context: Path) -> None:
    served.buildx("build", "-t", f"{served.host}/team/base:1", "--push", context)
    (context / "Dockerfile").write_text(f"FROM {served.host}/team/base:1\nRUN cat twice > /thrice\n")
    served.buildx("build", "-t", f"{served.host}/team/above:1", "--push", context)
    config = json.loads(served.skopeo("inspect", "team/above:1", "--config"))
    assert "cat twice" in config["history"][-1]["created_by"]


@pytest.mark.parametrize(
    ("user", "said"), [("mallory:guess", "the login or password is wrong"), ("", "login required")]
)
def test_who_may_not_push_over_http_may_not_push_so(served: Served, context: Path, user: str, said: str) -> None:
    assert said in served.buildx("build", "-t", f"{served.host}/no:1", "--push", context, user=user, fails=True)


def test_a_shared_cache_lies_in_the_same_store(served: Served, context: Path) -> None:
    cache = f"type=registry,ref={served.host}/cache:1"
    served.buildx("build", "--cache-to", f"{cache},mode=max", context)
    served.buildx("prune", "--all", "--force")
    assert served.buildx("build", "--progress=plain", "--cache-from", cache, context).count("CACHED") == 2


def test_a_prune_takes_nothing_from_the_registry(served: Served, context: Path, tmp_path: Path) -> None:
    served.buildx("build", "--platform", "linux/arm64", "-t", f"{served.host}/kept:1", "--push", context)
    served.buildx("prune", "--all", "--force")
    served.skopeo("copy", "kept:1", f"dir:{tmp_path}/taken")
    assert len(list((tmp_path / "taken").iterdir())) > 4


def test_a_second_one_on_the_same_state_says_who_has_it(served: Served) -> None:
    words = (
        "serve",
        "--root",
        str(served.process.root),
        "--addr",
        f"unix://{served.home}/b",
        "--listen",
        "127.0.0.1:0",
    )
    done = subprocess.run([sys.executable, "-m", "knarr", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"another registry has this store: process {served.process.process.pid}" in done.stderr


def test_the_end_waits_for_a_build_and_its_push(bases: Any, buildx_program: str, context: Path, tmp_path: Path) -> None:
    environ = {"KNARR_HOSTS_DIR": str(bases.hosts_dir)}
    flags = ("--listen", "127.0.0.1:0", "--drain-timeout", "60")
    root = tmp_path / "root"
    with running(root, *flags, environ=environ, command="serve") as process:
        found = re.search(r"serving http://127\.0\.0\.1:(\d+)/v2/", process.log.read_text())
        assert found
        served = Served(process, f"localhost:{found[1]}", "", tmp_path, buildx_program, tmp_path)
        served.buildx("create", "--name", "served", "--driver", "remote", f"unix://{process.socket}")
        (context / "Dockerfile").write_text("FROM busybox\nRUN echo begun; sleep 3\n")
        environ = {**os.environ, "BUILDX_CONFIG": str(tmp_path / "buildx"), "BUILDX_BUILDER": "served"}
        words = ["build", "--progress=plain", "-t", f"{served.host}/late:1", "--push", str(context)]
        with subprocess.Popen([buildx_program, *words], env=environ, stderr=subprocess.PIPE, text=True) as build:
            assert build.stderr is not None
            said = _until(build.stderr.readline, "begun")
            process.process.send_signal(signal.SIGTERM)
            said += build.stderr.read()
            assert build.wait(60) == 0, said
        assert process.process.wait(30) == 0
        process.log.unlink()
    with running(root, *flags, environ=environ, command="serve") as process:
        found = re.search(r"serving (http://\S+/v2/)", process.log.read_text())
        assert found
        with urllib.request.urlopen(f"{found[1]}late/tags/list") as answer:
            assert json.load(answer)["tags"] == ["1"]


def _until(read: Callable[[], str], word: str) -> str:
    """What `read` gives, line by line, until a line has `word` as output."""
    said = ""
    while not re.search(rf" {word}$", said.rstrip()):
        line = read()
        assert line, said
        said += line
    return said
