# ruff: noqa: F811  # a fixture of another module is named as an argument
"""Keyless signing from the command line, with services on this machine, and what is said where there are none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.trust.conftest import Stage, stage  # noqa: F401  # a fixture

from .authority import Authority
from .services import served, token, trust_config

Knarr = Callable[..., str]
WHO, BY = "dev@corp.example", "https://login.corp.example"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture(autouse=True)
def work(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIGSTORE_ID_TOKEN", raising=False)
    (tmp_path / "token").write_text(token(WHO, BY))
    (tmp_path / "root.json").write_text(authority.trusted_root)
    return tmp_path


VERIFY = ("--certificate-identity", WHO, "--certificate-oidc-issuer", BY, "--trusted-root", "root.json")


def test_an_identity_signs_and_is_verified_without_the_services(
    knarr: Knarr,
    stage: Stage,
    authority: Authority,
    work: Path,
) -> None:
    with served(authority) as config:
        (work / "config.json").write_text(config)
        signed = knarr("sign", "--keyless", "--identity-token", "token", "--trust-config", "config.json", stage.name)
    assert signed.count("bundle") == 1
    assert f"by {WHO} ({BY})" in knarr("verify", *VERIFY, stage.name)
    other = ("--certificate-identity", "other@corp.example", *VERIFY[2:])
    assert f"it is for {WHO} of {BY}, and other@corp.example" in knarr("verify", *other, stage.name, status=1)
    (work / "trust.toml").write_text(
        f'[[rule]]\nimages = ["oci:*"]\ntrusted-root = "root.json"\n'
        f'identities = [{{subject = "{WHO}", issuer = "{BY}"}}]\n'
    )
    knarr("verify", "--policy", "trust.toml", stage.name)


def test_services_that_say_no_are_told(
    knarr: Knarr,
    stage: Stage,
    authority: Authority,
    work: Path,
) -> None:
    argv = ("sign", "--keyless", "--identity-token", "token", "--trust-config", "config.json", stage.name)
    with served(authority, refuses=True) as config:
        (work / "config.json").write_text(config)
        assert "keyless signing failed" in knarr(*argv, status=1)
    (work / "config.json").write_text(trust_config(authority, "http://127.0.0.1:1"))
    assert "without a network sign with a key" in knarr(*argv, status=1)
    (work / "config.json").write_text("{}")
    assert "the trust configuration cannot be used" in knarr(*argv, status=2)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--keyless",), "needs an identity token"),
        (("--keyless", "--identity-token", "root.json"), "the identity token cannot be used"),
        (("--keyless", "--key", "k"), "exclude each other"),
        (("--keyless", "--form", "tag"), "in bundles only"),
        (("--identity-token", "token"), "--identity-token is for --keyless"),
    ],
)
def test_what_cannot_be_meant_is_told(
    knarr: Knarr,
    stage: Stage,
    argv: tuple[str, ...],
    says: str,
) -> None:
    assert says in knarr("sign", *argv, stage.name, status=2)


def test_a_token_that_has_ended_signs_nothing(knarr: Knarr, stage: Stage, work: Path) -> None:
    (work / "token").write_text(token(WHO, BY, -600))
    said = knarr("sign", "--keyless", "--identity-token", "token", stage.name, status=2)
    assert "the identity token cannot be used" in said
