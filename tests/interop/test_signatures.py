# ruff: noqa: F811  # fixtures of other modules are named as arguments
"""cosign and skopeo check what knarr signed, and knarr what they signed; an HSM signs, too.

cosign 2.5 and a skopeo whose sigstore code is not switched off come from the machine
or from the next Debian.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import newer_package  # tools/
from tests.cli.test_sign import name  # noqa: F401  # a fixture: an unsigned image in a registry
from tests.conftest import knarr  # noqa: F401  # a fixture: the command in this process
from tests.interop.test_copyregistries import environ, ours  # noqa: F401  # fixtures: a registry of our own

pytestmark = pytest.mark.system

Knarr = Callable[..., str]
Program = Callable[..., subprocess.CompletedProcess[str]]
LEAST = (1, 13)  # the first skopeo that Debian ships with sigstore
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
# cosign asks the network for a trusted root even when only a key counts, unless it is given one.
EMPTY_ROOT = {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    def find(package: str) -> str:
        cache = tmp_path_factory.getbasetemp().parent.parent / "knarr-test-programs"
        cache.mkdir(exist_ok=True)
        with open(cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return str(newer_package.program(cache, package))

    return find


def caller(program: str, work: Path) -> Program:
    env = {**os.environ, "COSIGN_PASSWORD": "secret", "HOME": str(work), "DOCKER_CONFIG": str(work)}

    def call(*argv: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([program, *argv], env=env, cwd=work, capture_output=True, text=True, timeout=120)
        assert (done.returncode == 0) is ok, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return call


@pytest.fixture
def cosign(cosign_program: str, work: Path) -> Program:
    (work / "root.json").write_text(json.dumps(EMPTY_ROOT))
    return caller(cosign_program, work)


@pytest.fixture(scope="session")
def skopeo_program(programs: Callable[[str], str]) -> str:
    installed = subprocess.run(["skopeo", "--version"], capture_output=True, text=True, check=True).stdout
    numbers = re.search(r"(\d+)\.(\d+)", installed)
    assert numbers is not None
    return "skopeo" if (int(numbers[1]), int(numbers[2])) >= LEAST else programs("skopeo")


@pytest.fixture
def skopeo(skopeo_program: str, work: Path) -> Program:
    return caller(skopeo_program, work)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.setenv("COSIGN_PASSWORD", "secret")
    (path / "passphrase").write_text("secret")
    return path


@pytest.fixture
def pair(knarr: Knarr, work: Path) -> str:
    knarr("sign", "generate-key", "k")
    return "k"


OFFLINE = ("--insecure-ignore-tlog", "--allow-insecure-registry")
BUNDLES = ("--new-bundle-format", "--trusted-root", "root.json")
SIGNING = "https://sigstore.dev/cosign/sign/v1"


def test_cosign_verifies_what_knarr_signed(knarr: Knarr, cosign: Program, pair: str, name: str) -> None:
    knarr("sign", "--key", f"{pair}.key", "-a", "env=prod", name)
    (said,) = json.loads(cosign("verify", "--key", f"{pair}.pub", "-a", "env=prod", *OFFLINE, name).stdout)
    assert said["critical"]["identity"]["docker-reference"] == name
    cosign("verify", "--key", f"{pair}.pub", "-a", "env=test", *OFFLINE, name, ok=False)
    cosign("verify-attestation", *BUNDLES, "--key", f"{pair}.pub", "--type", SIGNING, *OFFLINE, name)


@pytest.mark.parametrize("kind", ["ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048"])
def test_cosign_verifies_with_keys_of_every_kind(
    knarr: Knarr,
    cosign: Program,
    work: Path,
    kind: str,
    name: str,
) -> None:
    knarr("sign", "generate-key", "--type", kind, "k")
    knarr("sign", "--key", "k.key", name)
    assert cosign("public-key", "--key", "k.key").stdout.strip() == Path("k.pub").read_text().strip()
    cosign("verify", "--key", "k.pub", *OFFLINE, name)
    cosign("verify-attestation", *BUNDLES, "--key", "k.pub", "--type", SIGNING, *OFFLINE, name)


def test_cosign_verifies_attestations_that_knarr_signed(
    knarr: Knarr,
    cosign: Program,
    pair: str,
    name: str,
) -> None:
    Path("p.json").write_text('{"tests": "passed"}')
    knarr("attest", "sign", "--key", f"{pair}.key", "--predicate", "p.json", "--type", "custom", name)
    words = ("verify-attestation", "--key", f"{pair}.pub", "--type", "custom", *OFFLINE)
    cosign(*words, name)
    cosign(*words, *BUNDLES, name)
    cosign(*words[:-4], "--type", "spdxjson", *OFFLINE, name, ok=False)


def test_knarr_verifies_what_cosign_signed(knarr: Knarr, cosign: Program, name: str) -> None:
    cosign("generate-key-pair")
    quiet = ("--tlog-upload=false", "--allow-insecure-registry", "-y", "--key", "cosign.key")
    cosign("sign", *quiet, "-a", "env=prod", "--recursive", name)
    knarr("verify", "--key", "cosign.pub", "-a", "env=prod", "--recursive", name)
    Path("p.json").write_text('{"tests": "passed"}')
    cosign("attest", *quiet, "--predicate", "p.json", "--type", "custom", name)
    cosign("attest", *quiet, "--new-bundle-format", "--predicate", "p.json", "--type", "https://example.com/t", name)
    knarr("attest", "verify", "--key", "cosign.pub", "--type", "custom", name)
    knarr("attest", "verify", "--key", "cosign.pub", "--type", "https://example.com/t", name)
    listed = knarr("attest", "list", "--type", "custom", name)
    assert "attestation tag" in listed
    # cosign's own key signs for knarr as well, and both signatures are there.
    knarr("sign", "--key", "cosign.key", "-a", "by=knarr", name)
    assert len(json.loads(cosign("verify", "--key", "cosign.pub", *OFFLINE, name).stdout)) == 2


def policy(work: Path, host: str, key: Path, **more: Any) -> None:
    asked = [{"type": "sigstoreSigned", "keyPath": str(key), **more}]
    found = {"default": [{"type": "reject"}], "transports": {"docker": {host: asked}}}
    (work / "policy.json").write_text(json.dumps(found))
    (work / "registries.d").mkdir(exist_ok=True)
    (work / "registries.d/all.yaml").write_text("default-docker: {use-sigstore-attachments: true}\n")


@pytest.fixture
def app(bases: Any, skopeo: Program, tmp_path: Path) -> str:
    """A busybox of two platforms in a real registry, under a name of the test's own."""
    there = f"{bases.address}/signed/{tmp_path.name.lower()}:v1"
    copy = ("--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false")
    skopeo(*copy, f"oci:{bases.layout}:latest", f"docker://{there}")
    return there


@pytest.mark.parametrize("choice", [(), ("--all",)], ids=["one platform", "all"])
def test_a_policy_of_skopeos_takes_what_knarr_signed(
    knarr: Knarr, skopeo: Program, pair: str, work: Path, choice: tuple[str, ...], app: str
) -> None:
    policy(work, app.partition("/")[0], work / f"{pair}.pub")
    copy = ("--policy", "policy.json", "--registries.d", "registries.d", "copy", "-q", "--remove-signatures", *choice)
    argv = (*copy, "--src-tls-verify=false", f"docker://{app}", f"dir:{work}/out")
    assert "no signature exists" in skopeo(*argv, ok=False).stderr
    knarr("sign", "--key", f"{pair}.key", "--recursive", app)
    skopeo(*argv)
    knarr("sign", "generate-key", "other")
    policy(work, app.partition("/")[0], work / "other.pub")
    assert "cryptographic signature verification failed" in skopeo(*argv, ok=False).stderr


def test_a_policy_of_skopeos_compares_the_name_that_knarr_signed(
    knarr: Knarr, skopeo: Program, pair: str, work: Path, app: str
) -> None:
    policy(work, app.partition("/")[0], work / f"{pair}.pub")
    copy = ("--policy", "policy.json", "--registries.d", "registries.d", "copy", "-q", "--remove-signatures", "--all")
    argv = (*copy, "--src-tls-verify=false", f"docker://{app}", f"dir:{work}/out")
    knarr("sign", "--key", f"{pair}.key", "--recursive", "--identity", "registry.example/other:v1", app)
    assert "registry.example/other:v1" in skopeo(*argv, ok=False).stderr
    assert "it signs registry.example/other:v1" in knarr("verify", "--policy", "policy.json", app, status=1)


def test_knarr_verifies_what_skopeo_signed(knarr: Knarr, skopeo: Program, pair: str, work: Path, app: str) -> None:
    target = app.replace("/signed/", "/resigned/")
    (work / "registries.d").mkdir()
    (work / "registries.d/all.yaml").write_text("default-docker: {use-sigstore-attachments: true}\n")
    tls = ("--src-tls-verify=false", "--dest-tls-verify=false")
    keys = ("--sign-by-sigstore-private-key", f"{pair}.key", "--sign-passphrase-file", "passphrase")
    copy = ("--insecure-policy", "--registries.d", "registries.d", "copy", "-q", "--all", *tls, *keys)
    skopeo(*copy, f"docker://{app}", f"docker://{target}")
    assert knarr("verify", "--key", f"{pair}.pub", "--recursive", target).count("  verified\n") == 3
    policy(work, target.partition("/")[0], work / f"{pair}.pub")
    knarr("verify", "--policy", "policy.json", "--recursive", target)
    knarr("sign", "generate-key", "other")
    knarr("verify", "--key", "other.pub", target, status=1)
    # Both may sign one image, one after the other.
    knarr("sign", "--key", "other.key", "--recursive", target)
    knarr("verify", "--key", "other.pub", "--key", f"{pair}.pub", "--threshold", "2", "--recursive", target)


@pytest.fixture
def token(work: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token of SoftHSM with keys of three kinds; the URI that it begins with."""
    (work / "tokens").mkdir()
    (work / "softhsm.conf").write_text(f"directories.tokendir = {work}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(work / "softhsm.conf"))
    init = ["softhsm2-util", "--init-token", "--free", "--label", "rel", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(init, check=True, capture_output=True)
    tool = ["pkcs11-tool", "--module", str(SOFTHSM), "--token-label", "rel"]
    for number, kind in enumerate(("EC:prime256v1", "rsa:2048", "EC:edwards25519"), 1):
        made = [
            "--login",
            "--pin",
            "1234",
            "--keypairgen",
            "--key-type",
            kind,
            "--id",
            f"0{number}",
            "--label",
            f"k{number}",
        ]
        subprocess.run([*tool, *made], check=True, capture_output=True)
    for number in (1, 2):
        read = ["--read-object", "--type", "pubkey", "--id", f"0{number}", "-o", f"{number}.der"]
        subprocess.run([*tool, *read], check=True, capture_output=True)
        words = ["openssl", "pkey", "-pubin", "-inform", "DER", "-in", f"{number}.der", "-out", f"{number}.pub"]
        subprocess.run(words, check=True, capture_output=True)
    return "pkcs11:token=rel"


@pytest.mark.parametrize("number", [1, 2], ids=["ecdsa", "rsa"])
def test_a_token_signs_and_cosign_takes_it(
    cosign: Program,
    token: str,
    work: Path,
    tmp_path: Path,
    name: str,
    number: int,
) -> None:
    (work / "pin").write_text("1234\n")
    key = f"{token};id=%0{number}?module-path={SOFTHSM}&pin-source={work}/pin"
    # In a process of its own: a module reads its configuration once.
    argv = [sys.executable, "-m", "knarr", "sign", "--key", key, name]
    subprocess.run(argv, check=True, env={**os.environ, "KNARR_ROOT": str(tmp_path / "state")})
    cosign("verify", "--key", f"{number}.pub", *OFFLINE, name)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("{token};object=k3?module-path={module}&pin-value=1234", ""),
        ("{token};object=k1?module-path={module}&pin-value=9999", "PinIncorrect"),
        ("{token};object=nothing?module-path={module}&pin-value=1234", "no private keys fit"),
        ("{token}?module-path={module}&pin-value=1234", "3 private keys fit"),
        ("pkcs11:token=other?module-path={module}", "no tokens fit"),
        ("{token}?module-path=/no/module.so", "/no/module.so"),
        ("{token}", "no module is named"),
    ],
)
def test_what_a_token_says_no_to_is_told_without_the_pin(
    token: str,
    tmp_path: Path,
    name: str,
    address: str,
    says: str,
) -> None:
    key = address.format(token=token, module=SOFTHSM)
    argv = [sys.executable, "-m", "knarr", "sign", "--key", key, name]
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
    assert says in done.stderr
    assert "defect" not in done.stderr
    assert "1234" not in done.stderr
    assert done.returncode == (0 if not says else done.returncode or 99)


@pytest.fixture
def trust(pair: str, app: str) -> str:
    """A policy that asks for this key's signature on everything of the test's registry."""
    Path("trust.toml").write_text(f'[[rule]]\nimages = ["{app.partition("/")[0]}"]\nkeys = ["{pair}.pub"]\n')
    return "trust.toml"


@pytest.mark.root
def test_a_build_uses_only_what_a_policy_lets_pass(
    knarr: Knarr, cosign: Program, pair: str, trust: str, app: str
) -> None:
    Path("context").mkdir()
    argv = ("build", "--progress", "plain", "--output", "type=cacheonly", "context")
    dockerfiles = (
        f"FROM {app}\nRUN true\n",
        f"FROM scratch\nCOPY --from={app} /bin/busybox /\n",
        f"FROM busybox\nRUN --mount=from={app},target=/mnt true\n".replace("busybox", app),
    )
    for text in dockerfiles:
        Path("context/Dockerfile").write_text(text)
        assert f"{app}: there is no signature" in knarr(*argv, "--verify", trust, status=1)
    Path("passphrase").write_text("secret")
    keys = ("--tlog-upload=false", "--allow-insecure-registry", "-y", "--key", f"{pair}.key")
    cosign("sign", *keys, app)
    for text in dockerfiles:
        Path("context/Dockerfile").write_text(text)
        knarr(*argv, "--verify", trust)
    # Once more, and the answer is not remembered: the policy has changed meanwhile.
    Path(trust).write_text("")
    assert "the trust policy refuses it" in knarr(*argv, "--verify", trust, status=1)


@pytest.mark.root
def test_a_daemon_asks_the_policy_as_well(
    knarr: Knarr, programs: Callable[[str], str], pair: str, trust: str, app: str, tmp_path: Path, work: Path
) -> None:
    from tests.daemon.conftest import running

    Path("context").mkdir()
    Path("context/Dockerfile").write_text(f"FROM {app}\n")
    env = {**os.environ, "BUILDX_CONFIG": str(work / "buildx"), "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    buildx = shutil.which("docker-buildx") or programs("docker-buildx")

    def call(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([buildx, *argv], env=env, capture_output=True, text=True, timeout=120)

    with running(tmp_path / "daemon", environ={"KNARR_VERIFY": str(work / trust)}) as daemon:
        call("create", "--name", "knarr", "--driver", "remote", f"unix://{daemon.socket}").check_returncode()
        argv = ("build", "--builder", "knarr", "--progress", "plain", "context")
        assert "there is no signature" in call(*argv).stderr
        knarr("sign", "--key", f"{pair}.key", app)
        call(*argv).check_returncode()


@pytest.mark.root
def test_everything_survives_a_registry_without_referrers_and_one_with_them(
    knarr: Knarr, cosign: Program, pair: str, app: str, ours: str
) -> None:
    """A build of two platforms with provenance, signed and attested; there and back, and nothing is lost."""
    Path("context").mkdir()
    Path("context/Dockerfile").write_text(f"FROM {app}\nLABEL a=b\n")
    built, there = app.replace("/signed/", "/built/"), f"{ours}/mirror/app:v1"
    back = built.replace("/built/", "/back/")
    platforms = ("--platform", "linux/amd64,linux/arm64", "--provenance", "mode=max")
    digest = knarr("build", "-q", *platforms, "--tag", built, "--push", "context").strip()
    knarr("sign", "--key", f"{pair}.key", "--recursive", "--attestations", built)
    for source, target in ((built, there), (there, back)):
        knarr("copy", source, target)
        shown = knarr("verify", "--key", f"{pair}.pub", "--recursive", target)
        assert shown.count("  verified\n") == 3
        assert shown.count("  yes  signature tag") == shown.count("  yes  bundle") == 3
        assert digest in shown
        attested = knarr("attest", "verify", "--key", f"{pair}.pub", "--type", "slsaprovenance1", target)
        assert attested.count("  verified\n") == 2
        assert attested.count("  yes  attestation tag") == attested.count("  yes  bundle") == 2
        cosign("verify", "--key", f"{pair}.pub", *OFFLINE, target)
