"""Logins that a builder needs: tokens where it can be, and no password then."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.client.logins import Logins
from knarr.session import tokenkey
from knarr.session.session import Credentials
from tests.conftest import _wait_until_up, free_port

Knarr = Callable[..., str]
ALICE = Credentials("alice", "sesame")


def test_a_key_is_that_of_a_user_at_a_registry_for_one_builder() -> None:
    seed, salt = b"s" * 32, b"salt"
    key = tokenkey.public_key(seed, "one.example", ALICE, salt)
    assert key == tokenkey.public_key(seed, "one.example", ALICE, salt)
    others = [
        tokenkey.public_key(b"t" * 32, "one.example", ALICE, salt),
        tokenkey.public_key(seed, "two.example", ALICE, salt),
        tokenkey.public_key(seed, "one.example", Credentials("bob", "sesame"), salt),
        tokenkey.public_key(seed, "one.example", ALICE, b"pepper"),
    ]
    assert len({key, *others}) == 5


def test_who_has_no_login_is_nobody_in_particular() -> None:
    mine = tokenkey.public_key(b"s" * 32, "one.example", Credentials(), b"salt")
    assert mine == tokenkey.public_key(b"t" * 32, "one.example", Credentials(), b"salt")


def test_what_is_signed_can_be_opened_by_the_key_alone() -> None:
    seed, salt = b"s" * 32, b"salt"
    key = tokenkey.public_key(seed, "one.example", ALICE, salt)
    signed = tokenkey.sign(seed, "one.example", ALICE, salt, b"payload")
    assert tokenkey.opened(key, signed) == b"payload"
    assert tokenkey.opened(key, signed[:-1] + b"!") is None
    assert tokenkey.opened(b"\0" * 32, signed) is None
    assert tokenkey.opened(key, b"short") is None


def test_a_seed_is_kept_for_its_user_alone(tmp_path: Path) -> None:
    place = tmp_path / "config" / "token_seed"
    seed = tokenkey.read_seed(place)
    assert tokenkey.read_seed(place) == seed
    assert place.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry with tokens and passwords, which alice may write to."""
    address = f"127.0.0.1:{free_port()}"
    htpasswd = subprocess.run(["htpasswd", "-nbB", "alice", "sesame"], capture_output=True, text=True, check=True)
    (tmp_path / "htpasswd").write_text(htpasswd.stdout)
    (tmp_path / "registry.toml").write_text(f'listen = "{address}"\n[auth]\nhtpasswd = "htpasswd"\ntokens = true\n')
    command = [sys.executable, "-m", "knarr", "registry", "serve", "--config", str(tmp_path / "registry.toml")]
    environ = {**os.environ, "KNARR_ROOT": str(tmp_path / "registry")}
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environ)
    try:
        _wait_until_up(f"http://{address}/token?service={address}")
        yield address
    finally:
        server.terminate()
        server.wait()


@pytest.mark.root
@pytest.mark.system
def test_a_builder_pushes_and_pulls_without_seeing_the_password(
    knarr: Knarr, builder: str, registry: str, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = base64.b64encode(b"alice:sesame").decode()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {registry: {"auth": login}}}))
    told, tokens = [], []
    credentials, fetch = Logins.credentials, Logins.fetch_token

    def noted_login(self: Logins, request: object, context: object) -> object:
        told.append(request)
        return credentials(self, request, context)  # type: ignore[arg-type]

    def noted_token(self: Logins, request: object, context: object) -> object:
        tokens.append(request)
        return fetch(self, request, context)  # type: ignore[arg-type]

    monkeypatch.setattr(Logins, "credentials", noted_login)
    monkeypatch.setattr(Logins, "fetch_token", noted_token)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY hello /\n")
    knarr("build", "--builder", builder, "-t", f"{registry}/team/app:1", "--push", str(context))
    (context / "Dockerfile").write_text(f"FROM {registry}/team/app:1\nCOPY link /again\n")
    knarr("build", "--builder", builder, "-o", f"type=local,dest={tmp_path}/out", str(context))
    assert (tmp_path / "out/again").read_text() == "hello\n"
    assert tokens
    assert not told
