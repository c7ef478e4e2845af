"""Against Debian's docker-registry, with skopeo as the second opinion."""

from __future__ import annotations

import hashlib
import io
import subprocess
from pathlib import Path

import pytest

from knarr.errors import NotFound, RegistryError
from knarr.remote.probe import head
from knarr.remote.repository import Registry, Repository
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.descriptor import Descriptor
from knarr.spec.reference import Reference

from .conftest import Certificates, Connect, StartRegistry
from .material import CONFIG, Once, blob, image, read

pytestmark = pytest.mark.system

LOGIN = Credentials("ann", "s3cret, with: colon")


def push_image(repository: Repository, layer: bytes, tag: str) -> Descriptor:
    manifest = image(layer)
    repository.push(manifest.config, io.BytesIO(CONFIG))
    repository.push(blob(layer), io.BytesIO(layer))
    repository.push(manifest.descriptor, io.BytesIO(manifest.raw))
    repository.tag(manifest.descriptor, tag)
    return manifest.descriptor


def test_what_was_pushed_is_resolved_and_read_over_plain_http_on_loopback(
    start_registry: StartRegistry, connect: Connect
) -> None:
    host = start_registry().host
    repository = connect().repository(Reference.parse(f"{host}/team/app"))
    layer = bytes(range(256)) * 40_000

    pushed = push_image(repository, layer, "1")

    assert repository.resolve("1").digest == pushed.digest
    assert read(repository, blob(layer)) == layer
    assert list(repository.tags()) == ["1"]
    assert repository.has(blob(layer))
    assert not repository.has(blob(b"never pushed"))
    assert repository.lends(blob(layer))
    assert not repository.lends(blob(b"never pushed"))


def test_a_private_ca_and_a_login_are_used_and_skopeo_agrees(
    start_registry: StartRegistry, certificates: Certificates, tmp_path: Path
) -> None:
    started = start_registry(
        tls=certificates.issue("registry.test", names="DNS:registry.test,IP:127.0.0.1"),
        login=(LOGIN.username, LOGIN.password),
    )
    hosts = tmp_path / "certs.d" / "registry.test"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(f'server = "https://{started.host}"\nca = "{certificates.ca}"\n')
    settings = RegistrySettings(hosts_dirs=(str(tmp_path / "certs.d"),))
    kept = {"registry.test": LOGIN}  # as `knarr login registry.test` keeps it
    registry = Registry(settings, lambda name: kept.get(name, Credentials()))

    with registry:
        pushed = push_image(registry.repository(Reference.parse("registry.test/app")), b"layer", "1")

    assert head(Reference.parse("registry.test/app:1"), settings, lambda _: LOGIN) == pushed.digest
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "ca.crt").write_bytes(certificates.ca.read_bytes())
    options = [f"--cert-dir={trust}", f"--creds={LOGIN.username}:{LOGIN.password}"]
    command = ["skopeo", "inspect", "--raw", *options, f"docker://{started.host}/app:1"]
    seen = subprocess.run(command, check=True, capture_output=True)
    assert "sha256:" + hashlib.sha256(seen.stdout).hexdigest() == pushed.digest


def test_a_blob_is_mounted_from_a_sibling_repository(start_registry: StartRegistry, connect: Connect) -> None:
    host = start_registry().host
    registry = connect()
    push_image(registry.repository(Reference.parse(f"{host}/one")), b"shared", "1")
    two = registry.repository(Reference.parse(f"{host}/two"))

    assert two.mount_from(blob(b"shared"), "one")
    assert read(two, blob(b"shared")) == b"shared"
    assert not two.mount_from(blob(b"nowhere"), "one")
    two.push(blob(b"nowhere"), io.BytesIO(b"nowhere"))
    assert two.has(blob(b"nowhere"))


def test_a_wrong_password_is_refused_with_the_way_out(start_registry: StartRegistry, connect: Connect) -> None:
    host = start_registry(login=("ann", "right")).host
    registry = connect(login=Credentials("ann", "wrong"))

    with pytest.raises(RegistryError) as caught:
        registry.repository(Reference.parse(f"{host}/app")).resolve("1")

    assert caught.value.status == 401
    assert f"knarr login {host}" in caught.value.hint


def test_an_unknown_tag_is_not_found(start_registry: StartRegistry, connect: Connect) -> None:
    host = start_registry().host
    with pytest.raises(NotFound, match=r"app:none: not found"):
        connect().repository(Reference.parse(f"{host}/app")).resolve("none")


def test_chunks_are_accepted_for_content_that_cannot_be_rewound(
    start_registry: StartRegistry, connect: Connect
) -> None:
    host = start_registry().host
    settings = RegistrySettings(whole_bytes=1000, chunk_bytes=70_001)
    repository = connect(settings).repository(Reference.parse(f"{host}/app"))
    data = bytes(range(256)) * 1000
    seen: list[int] = []
    repository.push(blob(data), Once(data), report=seen.append)

    assert read(repository, blob(data)) == data
    assert seen[-1] == len(data)


def test_referrers_live_in_the_fallback_tag_where_the_api_is_missing(
    start_registry: StartRegistry, connect: Connect
) -> None:
    host = start_registry().host
    repository = connect().repository(Reference.parse(f"{host}/app"))
    subject = push_image(repository, b"layer", "1")
    kinds = ("application/x-one", "application/x-two")
    made = [image(artifact_type=kind, subject=subject.bare()) for kind in kinds]

    for manifest in made:
        repository.push_manifest(manifest.descriptor, manifest.raw)

    assert [d.digest for d in repository.predecessors(subject)] == [m.descriptor.digest for m in made]
    assert [d.digest for d in repository.predecessors(subject, kinds[1])] == [made[1].descriptor.digest]
    repository.delete(str(made[0].descriptor.digest))
    assert [d.digest for d in repository.predecessors(subject)] == [made[1].descriptor.digest]
