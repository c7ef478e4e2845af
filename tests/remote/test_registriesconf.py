"""podman's registries.conf: mirrors, other places, blocked names; with registries that are asked for it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.remote.hosts import Hosts
from knarr.remote.registriesconf import match
from knarr.remote.repository import Registry, Repository
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.reference import Reference

from .conftest import FAST, Certificates, Connect
from .fakeregistry import FakeRegistry
from .material import LAYER, blob, image, read


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def settings(tmp_path: Path, text: str, *more: str) -> RegistrySettings:
    file = tmp_path / "registries.conf"
    file.write_text(text)
    return RegistrySettings(hosts_dirs=(), buildkitd_toml=(), registries_conf=(str(file), *more), retry=FAST)


def at(client: Registry, name: str) -> Repository:
    return client.repository(Reference.parse(name))


def test_a_mirror_below_a_path_gives_and_takes_nothing(
    fake: FakeRegistry, other: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    text = f'[[registry]]\nlocation = "{fake.host}"\n[[registry.mirror]]\nlocation = "{other.host}/proxy"\n'
    place = at(connect(settings(tmp_path, text)), f"{fake.host}/team/app")
    other.add_manifest("proxy/team/app", "1", image().raw, image().media_type)
    other.add_blob("proxy/team/app", LAYER)
    assert place.resolve("1").digest == image().descriptor.digest
    assert read(place, blob(LAYER)) == LAYER
    assert fake.seen == []
    assert "ns=" not in other.seen[0].path
    place.push(blob(b"new"), io.BytesIO(b"new"))
    assert ("team/app", str(blob(b"new").digest)) in fake.blobs


def test_a_location_stands_for_what_the_prefix_covers(fake: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
    text = f'[[registry]]\nprefix = "old.example/team"\nlocation = "{fake.host}/new/home"\n'
    client = connect(settings(tmp_path, text))
    place = at(client, "old.example/team/app")
    place.push(blob(LAYER), io.BytesIO(LAYER))
    place.push_manifest(image().descriptor, image().raw, tag="1")
    assert fake.tags["new/home/app", "1"] == image().descriptor.digest
    assert list(place.tags()) == ["1"]
    assert read(place, blob(LAYER)) == LAYER


def test_tokens_are_asked_for_what_the_place_calls_it(connect: Connect, tmp_path: Path) -> None:
    with FakeRegistry(tokens=True, login=("ann", "secret")) as fake:
        text = f'[[registry]]\nprefix = "old.example/team"\nlocation = "{fake.host}/new"\n'
        place = at(connect(settings(tmp_path, text), Credentials("ann", "secret")), "old.example/team/app")
        place.push(blob(LAYER), io.BytesIO(LAYER))
        assert read(place, blob(LAYER)) == LAYER


def test_an_insecure_place_needs_no_known_certificate(
    certificates: Certificates, connect: Connect, tmp_path: Path
) -> None:
    with FakeRegistry(tls=certificates.issue("conf", names="DNS:elsewhere.example")) as fake:
        fake.add_manifest("app", "1", image().raw, image().media_type)
        addresses = {"r.example": "127.0.0.1"}
        from knarr.record import replace

        usual = settings(tmp_path, f'[[registry]]\nlocation = "r.example:{fake.port}"\ninsecure = true\n')
        place = at(connect(replace(usual, addresses=addresses)), f"r.example:{fake.port}/app")
        assert place.resolve("1").digest == image().descriptor.digest


def test_a_mirror_for_digests_is_not_asked_where_a_tag_leads(
    fake: FakeRegistry, other: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    text = (
        f'[[registry]]\nlocation = "{fake.host}"\nmirror-by-digest-only = true\n'
        f'[[registry.mirror]]\nlocation = "{other.host}"\n'
    )
    fake.add_manifest("app", "1", image().raw, image().media_type)
    other.add_blob("app", LAYER)
    place = at(connect(settings(tmp_path, text)), f"{fake.host}/app")
    place.resolve("1")
    assert other.seen == []
    assert read(place, blob(LAYER)) == LAYER


def test_what_is_blocked_is_refused_with_the_file(connect: Connect, tmp_path: Path) -> None:
    client = connect(settings(tmp_path, '[[registry]]\nlocation = "bad.example"\nblocked = true\n'))
    with pytest.raises(UsageError, match=r"bad\.example is blocked") as caught:
        at(client, "bad.example/app").resolve("1")
    assert str(tmp_path / "registries.conf") in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("example.com/a/b", "example.com/a"),
        ("example.com/ab", "example.com"),
        ("x.corp.example:5000/app", "*.corp.example"),
        ("corp.example/app", ""),
        ("example.com:5000/app", "example.com"),
        ("other.example/app", ""),
    ],
)
def test_the_longest_prefix_counts(tmp_path: Path, name: str, prefix: str) -> None:
    file = tmp_path / "registries.conf"
    tables = ('location = "example.com"', 'location = "example.com/a"', 'prefix = "*.corp.example"')
    file.write_text("".join(f"[[registry]]\n{table}\n" for table in tables))
    found = match((str(file),), name)
    assert (found.prefix if found else "") == prefix


def test_a_drop_in_replaces_a_table_of_the_same_prefix(tmp_path: Path) -> None:
    drop = tmp_path / "registries.conf.d"
    drop.mkdir()
    (drop / "10.conf").write_text('[[registry]]\nprefix = "r.example"\nlocation = "new.example"\n')
    (drop / "ignored.txt").write_text("[[registry]]")
    found = Hosts(settings(tmp_path, '[[registry]]\nlocation = "r.example"\n', str(drop))).endpoints("r.example", "app")
    assert [endpoint.origin.host for endpoint in found] == ["new.example"]


@pytest.mark.parametrize("text", ["[[registry]]\n", "[[registry]]\nlocation = 3\n", "[[registry]]\nlocation =\n"])
def test_what_cannot_be_understood_is_told_with_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "registries.conf"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"registries\.conf"):
        match((str(file),), "r.example/app")


def test_who_has_a_file_of_his_own_does_not_read_the_machine_s(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    own = tmp_path / ".config/containers/registries.conf"
    assert RegistrySettings.from_environment(home).registries_conf == (
        "/etc/containers/registries.conf",
        "/etc/containers/registries.conf.d",
        f"{own}.d",
    )
    os.makedirs(own.parent)
    own.touch()
    assert RegistrySettings.from_environment(home).registries_conf == (str(own), f"{own}.d")
