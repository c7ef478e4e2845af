"""`knarr sign`, `verify` and `attest`, on layouts and against a registry in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.reference import Reference
from tests.remote.fakeregistry import FakeRegistry
from tests.trust.conftest import PROVENANCE, Attested, Stage, stage  # noqa: F401  # a fixture

Knarr = Callable[..., str]


@pytest.fixture(autouse=True)
def passphrase(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "secret")
    monkeypatch.setattr("knarr.attest.keyfile._N", 2**10)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def key(knarr: Knarr) -> str:
    """The private key of a pair that was made here: k.key and k.pub."""
    knarr("sign", "generate-key", "k")
    return "k.key"


@pytest.fixture(params=[True, False], ids=["referrers API", "fallback tag"])
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """An unsigned image in a registry."""
    with FakeRegistry(referrers=request.param) as registry:
        client = Registry(RegistrySettings(hosts_dirs=()), lambda _: Credentials())
        with client:
            universe = Attested()
            universe.tags.clear()
            universe.push_to(client.repository(Reference.parse(f"{registry.host}/app")), "1")
        yield f"{registry.host}/app:1"


def test_an_image_in_a_registry_is_signed_and_verified(knarr: Knarr, name: str, key: str) -> None:
    assert "there is no signature" in knarr("verify", "--key", "k.pub", name, status=1)
    told = knarr("sign", "--key", key, "-a", "env=prod", "--recursive", name).splitlines()
    assert [line.split("  ")[1] for line in told] == ["signature tag", "bundle"] * 3
    shown = knarr("verify", "--key", "k.pub", "-a", "env=prod", "--recursive", name)
    assert shown.count("  verified\n") == 3
    assert f"by k.pub  as {name}  (env=prod)" in shown


def test_verifying_says_everything_to_programs(knarr: Knarr, name: str, key: str) -> None:
    knarr("sign", "--key", key, name)
    (found,) = json.loads(knarr("verify", "--key", "k.pub", "--format", "json", name))
    assert found["verified"] is True
    assert found["signers"] == ["k.pub"]
    assert [piece["form"] for piece in found["evidence"]] == ["signature tag", "bundle"]
    knarr("sign", "generate-key", "other")
    (refused,) = json.loads(
        knarr("verify", "-k", "other.pub", "--format", "json", name, status=1).rpartition("]")[0] + "]"
    )
    assert refused["verified"] is False
    assert "other.pub" in refused["reason"]


def test_attestations_are_listed_shown_signed_and_verified(knarr: Knarr, name: str, key: str) -> None:
    assert len(knarr("attest", "list", name).splitlines()) == 4
    assert "nobody signed it" in knarr(
        "attest", "verify", "--key", "k.pub", "--type", "slsaprovenance1", name, status=1
    )
    knarr("sign", "--key", key, "--attestations", name)
    shown = knarr("attest", "verify", "--key", "k.pub", "--type", "slsaprovenance1", name)
    assert shown.count("  verified\n") == 2
    (one, *_) = json.loads(knarr("attest", "show", "--platform", "linux/amd64", "--format", "json", name))
    assert one["statement"]["predicateType"] == PROVENANCE


def test_a_predicate_of_a_file_is_attested(knarr: Knarr, name: str, key: str) -> None:
    Path("p.json").write_text('{"tests": "passed"}')
    knarr("attest", "sign", "--key", key, "--predicate", "p.json", "--type", "https://example.com/tests", name)
    argv = ("attest", "show", "--type", "https://example.com/tests", "--format", "predicate")
    assert json.loads(knarr(*argv, name)) == {"tests": "passed"}
    knarr("attest", "verify", "--key", "k.pub", "--type", "https://example.com/tests", name)
    assert "there is no attestation of type" in knarr(
        "attest", "verify", "-k", "k.pub", "--type", "spdx", name, status=1
    )


def test_a_layout_is_signed_as_well(knarr: Knarr, stage: Stage, key: str) -> None:  # noqa: F811
    knarr("sign", "--key", key, "--identity", "registry.example/app:1", stage.name)
    assert "as registry.example/app:1" in knarr("verify", "--key", "k.pub", stage.name)


def test_one_changed_byte_and_the_image_is_refused(knarr: Knarr, stage: Stage, key: str) -> None:  # noqa: F811
    knarr("sign", "--key", key, "--form", "tag", stage.name)
    (found,) = json.loads(knarr("verify", "--key", "k.pub", "--format", "json", stage.name))
    blob = stage.blob(found["evidence"][0]["digest"])
    blob.write_bytes(blob.read_bytes().replace(b"container", b"Container"))
    assert "does not count: its content cannot be read" in knarr("verify", "--key", "k.pub", stage.name, status=1)


def test_signatures_go_along_with_a_copy(knarr: Knarr, stage: Stage, key: str, tmp_path: Path) -> None:  # noqa: F811
    knarr("sign", "--key", key, "--recursive", stage.name)
    knarr("copy", stage.name, f"oci-archive:{tmp_path}/a.tar:1")
    assert knarr("verify", "-r", "--key", "k.pub", f"oci-archive:{tmp_path}/a.tar:1").count("  verified\n") == 3


def test_keys_are_made_with_care(knarr: Knarr, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.stat(key).st_mode & 0o777 == 0o600
    assert "is there already" in knarr("sign", "generate-key", "k", status=2)
    knarr("sign", "generate-key", "--no-passphrase", "--type", "ed25519", "plain")
    assert Path("plain.key").read_text().startswith("-----BEGIN PRIVATE KEY-----")
    monkeypatch.delenv("COSIGN_PASSWORD")
    assert "a passphrase is needed" in knarr("sign", "generate-key", "n", status=2)
    assert not Path("n.key").exists()


@pytest.mark.parametrize(
    ("argv", "says", "status"),
    [
        (("verify", "oci:x"), "nobody is named who is trusted", 2),
        (("verify", "--key", "k.key", "oci:x"), "a private key", 2),
        (("verify", "--key", "no.pub", "oci:x"), "no.pub: No such file", 2),
        (("verify", "--key", "k.pub", "--threshold", "0", "oci:x"), "--threshold 0", 2),
        (("verify", "--certificate-identity", "a", "oci:x"), "certificates need who", 2),
        (("verify", "--policy", "p", "--key", "k.pub", "oci:x"), "--policy says whom to trust", 2),
        (("verify", "--format", "yaml", "--key", "k.pub", "oci:x"), "--format yaml", 2),
        (("sign", "oci:x"), "a key is needed", 2),
        (("sign", "--key", "k.pub", "oci:x"), "not a private key", 2),
        (("sign", "--key", "k.key", "--form", "paper", "oci:x"), "--form paper", 2),
        (("sign", "--key", "k.key", "-a", "x", "oci:x"), "must be KEY=VALUE", 2),
        (("sign", "--key", "k.key", "oci-archive:x"), "nothing can be added to an archive", 2),
        (("sign", "--key", "k.key", "oci:nowhere"), "nowhere", 1),
        (("sign", "--key", "pkcs11:colour=red", "oci:x"), "'colour' is not known", 2),
        (("attest", "sign", "--key", "k.key", "oci:x"), "needs --predicate FILE and --type TYPE", 2),
        (("attest", "sign", "-k", "k.key", "--predicate", "k.pub", "--type", "spdx", "oci:x"), "k.pub: not JSON", 2),
        (("attest", "frobnicate"), "attest frobnicate: not known", 2),
        (("attest", "show", "--format", "xml", "oci:x"), "--format xml", 2),
    ],
)
@pytest.mark.usefixtures("key")
def test_what_cannot_be_meant_is_told(knarr: Knarr, argv: tuple[str, ...], says: str, status: int) -> None:
    assert says in knarr(*argv, status=status)


@pytest.mark.usefixtures("key")
def test_a_wrong_passphrase_is_told(knarr: Knarr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "other")
    assert "k.key: the passphrase is wrong" in knarr("sign", "--key", "k.key", "oci:x", status=1)
    Path("pass").write_text("secret\n")
    said: Any = knarr("sign", "--key", "k.key", "--passphrase-file", "pass", "oci:nowhere", status=1)
    assert "passphrase" not in said


@pytest.fixture
def trust(key: str, name: str) -> str:
    """A policy that asks for this key's signature on everything of the registry."""
    host = name.partition("/")[0]
    Path("trust.toml").write_text(f'[[rule]]\nimages = ["{host}"]\nkeys = ["k.pub"]\n')
    return "trust.toml"


def test_what_a_policy_refuses_is_neither_pulled_nor_copied(
    knarr: Knarr, name: str, key: str, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for argv in (("pull", name), ("copy", name, "oci:out:1")):
        assert "there is no signature" in knarr(*argv, "--verify", trust, status=1)
        with monkeypatch.context() as patch:
            patch.setenv("KNARR_VERIFY", trust)
            assert "there is no signature" in knarr(*argv, status=1)
    assert knarr("images", "--format", "json").strip() in ("", "[]")
    assert not Path("out").exists()
    knarr("sign", "--key", key, name)
    knarr("copy", name, "oci:out:1", "--verify", trust)
    assert "the trust policy refuses it" in knarr("copy", "oci:out:1", "oci:again:1", "--verify", trust, status=1)
    monkeypatch.setenv("KNARR_VERIFY", trust)
    knarr("copy", "oci:out:1", "oci:again:1", "--verify", "off")


def test_verify_by_policy_shows_what_was_found(knarr: Knarr, name: str, key: str, trust: str) -> None:
    assert "there is no signature" in knarr("verify", "--policy", trust, name, status=1)
    knarr("sign", "--key", key, name)
    assert "by k.pub" in knarr("verify", "--policy", trust, name)
    Path("none.toml").write_text("")
    assert "the trust policy refuses it" in knarr("verify", "--policy", "none.toml", name, status=1)


def test_all_tags_of_a_repository_pass_with_their_signatures(knarr: Knarr, name: str, key: str, trust: str) -> None:
    knarr("sign", "--key", key, name)
    knarr("copy", "--all-tags", name.rpartition(":")[0], "oci:out", "--verify", trust)
    assert "by k.pub" in knarr("verify", "--key", "k.pub", "oci:out:1")


def test_a_sync_copies_what_the_policy_lets_pass_and_tells_of_the_rest(
    knarr: Knarr, name: str, key: str, trust: str
) -> None:
    repository = name.rpartition(":")[0]
    Path("sync.toml").write_text(f'[[sync]]\nsource = "{repository}"\ntargets = ["oci:{os.getcwd()}/out"]\n')
    said = knarr("sync", "sync.toml", "--verify", trust, status=1)
    assert "there is no signature" in said
    assert not Path("out/index.json").exists()
    knarr("sign", "--key", key, name)
    knarr("sync", "sync.toml", "--verify", trust)
    assert "by k.pub" in knarr("verify", "--key", "k.pub", "oci:out:1")


def test_what_cosigns_users_type_is_taken(knarr: Knarr, name: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE", Path(key).read_text())
    monkeypatch.setenv("PUBLIC", Path("k.pub").read_text())
    knarr("sign", "-y", "--tlog-upload=false", "--key", "env://PRIVATE", "--annotations", "a=b,c=d", name)
    argv = ("--key", "env://PUBLIC", "--insecure-ignore-tlog", "--offline", "--annotations", "c=d", "-o", "json")
    (found,) = json.loads(knarr("verify", *argv, name))
    assert found["verified"] is True
    Path("p.json").write_text("{}")
    knarr(
        "attest", "sign", "-y", "--tlog-upload=false", "--key", key, "--predicate", "p.json", "--type", "custom", name
    )
    knarr("attest", "verify", "--key", "k.pub", "--type", "custom", "--new-bundle-format", "-o", "json", name)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("sign", "--tlog-upload", "a"), "--keyless tells sigstore's"),
        (("sign", "--allow-insecure-registry", "a"), "use --insecure HOST"),
        (("sign", "--key", "gcpkms://a/b", "a"), "keys are not taken from gcpkms"),
        (("sign", "--key", "env://NO_SUCH", "a"), "the variable NO_SUCH is not set"),
        (("sign", "--sk", "a"), "--key 'pkcs11:"),
        (("verify", "--check-claims=false", "a"), "is compared always"),
        (("verify", "--insecure-ignore-sct", "a"), "--trusted-root FILE"),
        (("verify", "-o", "xml", "a"), "use json or text"),
        (("attest", "verify", "--policy", "p.rego", "a"), "neither CUE nor Rego"),
    ],
)
def test_what_cosign_has_and_we_have_not_is_refused_by_name(knarr: Knarr, argv: tuple[str, ...], says: str) -> None:
    assert says in knarr(*argv, status=2)
