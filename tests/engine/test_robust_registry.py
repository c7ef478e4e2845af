"""Registries that fail a build, and what the person is told: one error with its place, the fact and a way out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.aftermath import assert_nothing_left
from tests.engine.publish import MANIFEST, busybox, describe, publish, publish_index
from tests.remote.fakeregistry import FakeRegistry

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

APP = "app"
INVALID = b'{"errors":[{"code":"MANIFEST_INVALID"}]}'
LARGE = 10_000  # bytes: only the layer is larger


@pytest.fixture
def far(busybox_layout: Path) -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        publish(registry, APP, [busybox(busybox_layout)])
        yield registry


def told(knarr: Knarr, far: FakeRegistry, *options: str, dockerfile: str = "") -> str:
    """Build, which must fail; everything from the error on."""
    text = dockerfile or f"FROM {far.host}/{APP}\nRUN echo x > /x\n"
    done = knarr.run(*knarr.command(text, *options), check=False)
    shown: str = done.stderr
    assert done.returncode == 1, shown
    assert "Traceback" not in shown
    assert "ERROR: " in shown, "a step must show as failed"
    assert shown.count("error: ") == 1
    assert "hint: " in shown
    assert_nothing_left(knarr)
    return shown[shown.index("error: ") :]


def change_blobs(far: FakeRegistry, change: Callable[[bytes], bytes], *, large: bool) -> None:
    for key, data in list(far.blobs.items()):
        if (len(data) > LARGE) == large:
            far.blobs[key] = change(data)


def recovers(knarr: Knarr, far: FakeRegistry) -> None:
    """The same build succeeds once the registry is well: nothing wrong was kept."""
    far.forgive()
    assert knarr.build(f"FROM {far.host}/{APP}\nRUN echo x > /x\n").contents["x"] == b"x\n"
    assert_nothing_left(knarr)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "got other bytes"),
        (lambda data: data + b"more", "bytes, got more"),
        (lambda data: data[:-1000], "bytes, got"),
    ],
    ids=["other", "more", "less"],
)
def test_a_layer_with_other_bytes(knarr: Knarr, far: FakeRegistry, change: Callable[[bytes], bytes], fact: str) -> None:
    good = dict(far.blobs)
    change_blobs(far, change, large=True)
    error = told(knarr, far)
    assert fact in error
    assert f"from {far.host}/{APP}" in error
    far.blobs.update(good)
    recovers(knarr, far)


def test_a_config_with_other_bytes(knarr: Knarr, far: FakeRegistry) -> None:
    good = dict(far.blobs)
    change_blobs(far, lambda data: data.replace(b"amd64", b"amd65"), large=False)
    assert "got other bytes" in told(knarr, far)
    far.blobs.update(good)
    recovers(knarr, far)


def test_a_manifest_with_other_bytes(knarr: Knarr, far: FakeRegistry) -> None:
    good = dict(far.manifests)
    for key, (kind, raw) in good.items():
        far.manifests[key] = (kind, raw + b" ")
    assert "got other bytes" in told(knarr, far)
    far.manifests.update(good)
    recovers(knarr, far)


def test_a_layer_that_is_not_there(knarr: Knarr, far: FakeRegistry) -> None:
    good = dict(far.blobs)
    for key, data in good.items():
        if len(data) > LARGE:
            del far.blobs[key]
    assert "not found" in told(knarr, far)
    far.blobs.update(good)
    recovers(knarr, far)


@pytest.mark.parametrize(
    ("status", "fact"),
    [(500, "internal error of the registry"), (429, "too many requests"), (403, "access denied")],
)
def test_an_answer_that_is_an_error(knarr: Knarr, far: FakeRegistry, status: int, fact: str) -> None:
    far.fail("GET", "/manifests/", status=status, times=100)
    far.fail("HEAD", "/manifests/", status=status, times=100)
    error = told(knarr, far)
    assert f"{far.host} answered {status}, {fact}" in error
    recovers(knarr, far)


def test_a_few_bad_answers_are_nothing(knarr: Knarr, far: FakeRegistry) -> None:
    far.fail("HEAD", "/manifests/", status=429, times=1, headers={"Retry-After": "0"})
    far.fail("GET", "/manifests/", status=503, times=1)
    far.fail("GET", "/blobs/", status=500, times=1)
    far.fail("GET", "/blobs/", cut_after=1000, times=2, skip=1)
    assert knarr.build(f"FROM {far.host}/{APP}\nRUN echo x > /x\n").contents["x"] == b"x\n"


def test_a_registry_that_always_cuts(knarr: Knarr, far: FakeRegistry) -> None:
    far.fail("GET", "/blobs/", cut_after=10, times=100, skip=1)
    far.ranges = False
    assert "broke off" in told(knarr, far)
    recovers(knarr, far)


@pytest.mark.parametrize(
    ("method", "part", "how", "fact"),
    [
        ("POST", "/blobs/uploads/", {"status": 403}, "answered 403, access denied"),
        ("PUT", "/manifests/", {"status": 400, "body": INVALID}, "MANIFEST_INVALID"),
        ("PUT", "/blobs/uploads/", {"status": 400}, "answered 400"),
    ],
)
def test_a_push_that_is_refused(
    knarr: Knarr, far: FakeRegistry, method: str, part: str, how: dict[str, Any], fact: str
) -> None:
    far.fail(method, part, times=100, **how)
    options = ("-t", f"{far.host}/out:1", "--push")
    done = knarr.run(*knarr.command("FROM busybox\nRUN echo x > /x\n", *options), check=False)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert fact in done.stderr[done.stderr.index("error: ") :]
    assert f"{far.host}/out" in done.stderr[done.stderr.index("error: ") :]
    assert ("out", "1") not in far.tags
    assert_nothing_left(knarr)
    far.forgive()
    again = knarr.run(*knarr.command("FROM busybox\nRUN echo x > /x\n", *options))
    assert "CACHED" in again.stderr, "what was built stays built"
    assert ("out", "1") in far.tags


def test_an_index_without_this_platform(knarr: Knarr, far: FakeRegistry, busybox_layout: Path) -> None:
    tars = [busybox(busybox_layout)]
    publish_index(far, APP, [publish(far, APP, tars, architecture=name) for name in ("arm64", "s390x")])
    error = told(knarr, far)
    assert f"there is no image for linux/amd64 (image {far.host}/{APP}" in error
    assert "hint: available: linux/arm64, linux/s390x" in error


def test_an_index_of_attestations_only(knarr: Knarr, far: FakeRegistry, busybox_layout: Path) -> None:
    described = publish(far, APP, [busybox(busybox_layout)])
    described["platform"] = {"architecture": "unknown", "os": "unknown"}
    described["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    publish_index(far, APP, [described])
    assert "hint: the index has no images at all" in told(knarr, far)


def test_a_single_manifest_for_another_platform_is_warned_of(
    knarr: Knarr, far: FakeRegistry, busybox_layout: Path
) -> None:
    publish(far, APP, [busybox(busybox_layout)], architecture="s390x")
    done = knarr.run(*knarr.command(f"FROM {far.host}/{APP}\nCOPY . /\n"))
    assert "InvalidBaseImagePlatform" in done.stderr
    assert "linux/s390x" in done.stderr


def test_something_that_is_no_image(knarr: Knarr, far: FakeRegistry) -> None:
    config = describe(far, APP, b"{}", "application/vnd.oci.empty.v1+json")
    publish(far, APP, [], config=config, layers=[describe(far, APP, b"x", "application/wasm")])
    error = told(knarr, far)
    assert f"no image: its manifest has 1 layers, its config 0 (image {far.host}/{APP}" in error
    assert "hint: the config is of the type application/vnd.oci.empty.v1+json" in error


@pytest.mark.parametrize(
    "raw", [b"<html>welcome</html>", b"[]", b'{"schemaVersion":1}', json.dumps({"mediaType": MANIFEST}).encode()]
)
def test_a_page_instead_of_a_manifest(knarr: Knarr, far: FakeRegistry, raw: bytes) -> None:
    far.add_manifest(APP, "latest", raw, "text/html")
    assert f"{far.host}/{APP}" in told(knarr, far)


def test_nobody_listens(knarr: Knarr, far: FakeRegistry) -> None:
    error = told(knarr, far, dockerfile="FROM 127.0.0.1:1/app\n")
    assert "nothing listens at 127.0.0.1:1" in error


def test_a_name_without_an_address(knarr: Knarr, far: FakeRegistry) -> None:
    error = told(knarr, far, dockerfile="FROM nowhere.invalid/app\n")
    assert "'nowhere.invalid' has no address" in error


def login(knarr: Knarr, far: FakeRegistry, name: str, password: str) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = knarr.run(
        "login", "-u", name, "--password-stdin", far.host, stdin=password.encode(), check=False
    )
    return done


def test_a_wrong_password(knarr: Knarr, busybox_layout: Path) -> None:
    with FakeRegistry(login=("me", "s3same")) as far:
        publish(far, APP, [busybox(busybox_layout)])
        error = told(knarr, far)
        assert "login required" in error
        assert f"knarr login {far.host}" in error

        assert login(knarr, far, "me", "s3same").returncode == 0
        far.login = ("me", "an0ther")
        error = told(knarr, far)
        assert "me is not allowed to, or the password is wrong" in error
        assert "s3same" not in error

        refused = login(knarr, far, "me", "gu3ssed")
        assert refused.returncode == 1
        assert "gu3ssed" not in refused.stderr + refused.stdout


def test_tokens_that_expire_in_the_middle(knarr: Knarr, busybox_layout: Path) -> None:
    with FakeRegistry(tokens=True, login=("me", "s3same"), token_life_s=1) as far:
        publish(far, APP, [busybox(busybox_layout)])
        assert login(knarr, far, "me", "s3same").returncode == 0
        dockerfile = f"FROM {far.host}/{APP}\nRUN sleep 1.2; echo x > /x\n"
        with_tag = knarr.command(dockerfile, "-t", f"{far.host}/out:1", "--push")
        knarr.run(*with_tag)
        assert ("out", "1") in far.tags
        far.expire_tokens()
        knarr.run(*with_tag, "--no-cache")
        assert_nothing_left(knarr)


def test_a_certificate_that_nobody_here_trusts(knarr: Knarr, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    name = ("-subj", "/CN=stranger", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes")
    files = ("-keyout", str(key), "-out", str(certificate))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    subprocess.run(["openssl", "req", "-x509", *curve, *name, *files], check=True, capture_output=True)
    with FakeRegistry(tls=(certificate, key)) as far:
        place = knarr.work / "hosts" / far.host
        place.mkdir(parents=True)
        (place / "hosts.toml").write_text(f'server = "{far.url}"\n')
        knarr.env["KNARR_HOSTS_DIR"] = str(knarr.work / "hosts")
        error = told(knarr, far, dockerfile=f"FROM {far.host}/app\n")
        assert "certificate" in error
        assert far.host in error
