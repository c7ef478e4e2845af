"""The configuration file and the flags: what is understood, and how mistakes are told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.registry.configfile import listening, load
from knarr.registry.settings import ServerSettings

from .conftest import Start

GUIDE = Path(__file__).parents[2] / "docs/guide/registry-server.md"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "registry.toml"
    file.write_text(text)
    return file


def test_every_example_of_the_guide_is_understood(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(examples) >= 5
    for example in examples:
        load(
            written(tmp_path, example.replace('secret_sha256 = "…"', f'secret_sha256 = "{"a" * 64}"')), ServerSettings()
        )


def test_a_file_says_it_all(tmp_path: Path) -> None:
    text = """
        listen = ":5001"
        sparse = "indexes"
        [tls]
        certificate = "pki/server.crt"
        key = "/etc/key"
        [auth]
        htpasswd = "users"
        token_lifetime = "10m"
        [[auth.rule]]
        who = ["ci"]
        repositories = ["a/**"]
        may = ["pull", "push"]
        [[auth.robot]]
        name = "ci"
        secret_sha256 = "%s"
        expires = 2030-01-31
        [limits]
        idle = 5
        [retention]
        untagged = "7d"
        [[retention.keep]]
        newest = 3
        [[upstream]]
        host = "docker.io"
        fresh = "1h"
        [[webhook]]
        url = "https://a.example/"
        headers = { X = "y" }
    """
    found = load(written(tmp_path, text % ("A" * 64)), ServerSettings())
    assert (found.host, found.port, found.sparse) == ("0.0.0.0", 5001, "indexes")
    assert found.tls is not None
    assert (found.tls.certificate, found.tls.key) == (tmp_path / "pki/server.crt", Path("/etc/key"))
    assert (found.auth.token_s, found.auth.rules[0].may) == (600, ("pull", "push"))
    assert found.auth.robots[0].expires == 1896048000.0
    assert (found.limits.idle_s, found.retention.untagged_s, found.retention.keep[0].newest) == (5.0, 604800.0, 3)
    assert (found.upstreams[0].place, found.upstreams[0].fresh_s) == ("docker.io", 3600.0)
    assert found.webhooks[0].headers == (("X", "y"),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lisen = 'x'", "lisen is not known"),
        ("[auth]\nhtpaswd = 'x'", "auth.htpaswd is not known"),
        ("listen = 'x'", "'x' is no address"),
        ("listen = 5000", "listen: must be text"),
        ("delete = 'no'", "delete: must be true or false"),
        ("sparse = 'some'", "sparse: must be one of all, indexes, none"),
        ("[tls]\nkey = 'k'", "certificate and key are needed"),
        ("[limits]\nidle = 'soon'", "limits.idle: must be a duration"),
        ("[limits]\npage = -1", "limits.page: must be a number"),
        ("auth = 1", r"auth: is a table: \[auth\]"),
        ("[auth]\nrule = {}", r"auth.rule: is a list of tables: \[\[auth.rule\]\]"),
        ("[[auth.rule]]\nmay = ['pull']", "auth.rule.who"),
        ("[[auth.rule]]\nwho = ['a']\nmay = ['fly']", "'fly' is not one of"),
        ("[[auth.rule]]\nwho = 'a'", "auth.rule.who: must be a list of texts"),
        ("[[auth.robot]]\nname = 'ci'", "secret_sha256 are needed"),
        ("[[webhook]]\nurl = 'ftp://x'", "webhook.url: must be an http"),
        ("[[upstream]]\nhost = 'reg.example:5000'", "cannot begin a repository's name"),
        ("[[upstream]]\nprefix = 'x'", "upstream.host"),
        ("x = [", "registry.toml"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        load(written(tmp_path, text), ServerSettings())
    assert "registry.toml" in raised.value.message or "address" in raised.value.message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("5000", ("127.0.0.1", 5000)), (":5000", ("0.0.0.0", 5000)), ("[::1]:80", ("::1", 80)), ("a.b:1", ("a.b", 1))],
)
def test_where_to_listen(text: str, wanted: tuple[str, int]) -> None:
    assert listening(text) == wanted


def serve(tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "knarr", "registry", "serve", *flags]
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        (("--tls-cert=x",), 2, "go together"),
        (("--client-ca=x",), 2, "needs TLS"),
        (("--tls-cert=absent", "--tls-key=absent"), 2, "absent: No such file"),
        (("--htpasswd=absent",), 2, "absent: No such file"),
        (("--config=absent",), 2, "absent: No such file"),
        (("--sparse=few",), 2, "not one of"),
        (("--listen=nowhere",), 2, "is no address"),
        (("--listen=192.0.2.1:5000",), 1, "cannot listen on 192.0.2.1:5000"),
        (("word",), 2, "takes no arguments"),
    ],
)
def test_flags_that_cannot_be_meant(tmp_path: Path, flags: tuple[str, ...], status: int, told: str) -> None:
    done = serve(tmp_path, *flags)
    assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (status, True, False), done.stderr


def test_one_server_on_a_store_and_one_on_a_port(tmp_path: Path, start: Start) -> None:
    command = [sys.executable, "-m", "knarr", "registry", "serve", "--listen=127.0.0.1:0"]
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        port = first.stderr.readline().rpartition(":")[2].partition("/")[0]
        second = serve(tmp_path, "--listen=127.0.0.1:0")
        assert (second.returncode, "another registry has this store: process" in second.stderr) == (2, True)
        other = serve(tmp_path / "other", f"--listen=127.0.0.1:{port}")
        assert (other.returncode, "cannot listen on" in other.stderr) == (1, True)
        first.terminate()


def test_robots_get_a_secret_that_the_configuration_takes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "knarr", "registry", "robot", "ci", "--expires=2030-01-31"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    login, _, rest = said.partition("\n\n")
    settings = load(written(tmp_path, rest), ServerSettings())
    assert login.startswith("login:  robot$ci\nsecret: ")
    assert settings.auth.robots[0].name == "ci"
    assert settings.auth.rules[0].who == ("robot$ci",)
