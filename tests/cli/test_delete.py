# ruff: noqa: F811  # fixtures that are imported
"""`knarr delete` and `knarr catalog`, on knarr's own registry (deletes tags) and on Debian's (only by digest)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.remote.repository import Registry, Repository
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.reference import Reference
from tests.image.universe import Universe
from tests.registry.conftest import Start, start  # noqa: F401
from tests.remote.conftest import StartRegistry, start_registry  # noqa: F401

Knarr = Callable[..., str]


@pytest.fixture
def at() -> Iterator[Callable[[str], Repository]]:
    with Registry(RegistrySettings(hosts_dirs=()), lambda _: Credentials()) as client:
        yield lambda name: client.repository(Reference.parse(name))


@pytest.fixture(params=["knarr", "docker-registry"])
def host(request: pytest.FixtureRequest) -> str:
    if request.param == "knarr":
        starting: Start = request.getfixturevalue("start")
        return f"127.0.0.1:{starting().registry.port}"
    real: StartRegistry = request.getfixturevalue("start_registry")
    return real().host


@pytest.fixture
def app(host: str, at: Callable[[str], Repository]) -> tuple[Universe, str]:
    """An image with everything that can hang on it, under the tag 1."""
    universe = Universe()
    universe.push_to(at(f"{host}/app"), "1")
    return universe, f"{host}/app"


def again(universe: Universe, place: Repository, tag: str) -> None:
    index = universe.index
    place.push_manifest(index.descriptor.bare(), index.raw, tag=tag)


def test_a_tag_goes_and_what_belongs_to_the_image_stays(
    app: tuple[Universe, str], at: Callable[[str], Repository], knarr: Knarr
) -> None:
    universe, name = app
    assert knarr("delete", f"{name}:1") == f"deleted {name}:1 ({universe.root.digest})\n"
    assert "1" not in at(name).tags()
    assert any(tag.endswith(".sig") for tag in at(name).tags())


def test_with_referrers_nothing_of_the_image_stays(
    app: tuple[Universe, str], at: Callable[[str], Repository], knarr: Knarr
) -> None:
    universe, name = app
    said = [json.loads(line) for line in knarr("delete", "--with-referrers", "--format=json", f"{name}:1").splitlines()]
    assert said[0] == {"kind": "tag", "name": f"{name}:1", "digest": universe.root.digest}
    assert {one["digest"] for one in said if one["kind"] == "referrer"} >= {
        universe.sbom.descriptor.digest,
        universe.signature.descriptor.digest,
    }
    start = universe.root.digest.replace(":", "-")
    assert not [tag for tag in at(name).tags() if tag.startswith(start)]
    assert at(name).predecessors(universe.root) == ()


def test_what_another_tag_has_keeps_its_referrers(
    host: str, app: tuple[Universe, str], at: Callable[[str], Repository], knarr: Knarr, request: pytest.FixtureRequest
) -> None:
    universe, name = app
    again(universe, at(name), "2")
    if "docker-registry" in request.node.name:
        said = knarr("delete", "--with-referrers", f"{name}:1", status=1)
        assert "deletes by digest only, and a tag that stays has the same" in said
        assert f"`knarr delete {name}@{universe.root.digest}`" in said
        assert {"1", "2"} <= set(at(name).tags())
    else:
        knarr("delete", "--with-referrers", f"{name}:1")
        assert "1" not in at(name).tags()
    assert at(name).resolve("2").digest == universe.root.digest
    assert {one.digest for one in at(name).predecessors(universe.root)} >= {universe.sbom.descriptor.digest}


def test_a_digest_goes_with_all_its_tags(
    app: tuple[Universe, str], at: Callable[[str], Repository], knarr: Knarr
) -> None:
    universe, name = app
    again(universe, at(name), "2")
    assert knarr("delete", f"{name}@{universe.root.digest}") == f"deleted {name}@{universe.root.digest}\n"
    assert not {"1", "2"} & set(at(name).tags())


def test_a_dry_run_deletes_nothing(app: tuple[Universe, str], at: Callable[[str], Repository], knarr: Knarr) -> None:
    _, name = app
    before = set(at(name).tags())
    assert knarr("delete", "-n", "--with-referrers", f"{name}:1").startswith(f"would delete {name}:1 (")
    assert set(at(name).tags()) == before


def test_what_is_not_there_is_said_and_the_others_go(
    app: tuple[Universe, str], at: Callable[[str], Repository], knarr: Knarr
) -> None:
    _, name = app
    assert f"{name}:0: not found" in knarr("delete", f"{name}:0", f"{name}:1", status=1)
    assert "1" not in at(name).tags()
    assert knarr("delete", "--force", f"{name}:0") == ""


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("registry.example/app", "which tag or digest?"),
        ("oci:layout", "which tag or digest?"),
        ("store:app:1", "use `knarr rmi docker.io/library/app:1`"),
        ("oci-archive:x.tar:1", "nothing can be deleted there"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_deleted(word: str, why: str, knarr: Knarr) -> None:
    assert why in knarr("delete", word, status=2)


def test_a_tag_of_a_layout_goes(app: tuple[Universe, str], knarr: Knarr, tmp_path: Path) -> None:
    universe, name = app
    knarr("copy", f"{name}:1", f"oci:{tmp_path}/layout:1")
    assert "would delete" in knarr("delete", "-n", f"oci:{tmp_path}/layout@{universe.root.digest}")
    knarr("delete", "--with-referrers", f"oci:{tmp_path}/layout:1")
    start = universe.root.digest.replace(":", "-")
    assert not [tag for tag in knarr("tags", "-a", f"oci:{tmp_path}/layout").split() if tag.startswith((start, "1"))]


def test_the_catalog_lists_repositories(host: str, app: tuple[Universe, str], at: object, knarr: Knarr) -> None:
    _, name = app
    knarr("copy", f"{name}:1", f"{host}/team/one:1")
    knarr("copy", f"{name}:1", f"{host}/team/two:1")
    assert knarr("catalog", host).split() == ["app", "team/one", "team/two"]
    assert knarr("catalog", f"{host}/team").split() == ["team/one", "team/two"]
    assert knarr("catalog", "--full", "--filter", "*/two", host) == f"{host}/team/two\n"
    assert json.loads(knarr("catalog", "--format=json", f"{host}/team/")) == {
        "registry": host,
        "repositories": ["team/one", "team/two"],
    }
    assert knarr("catalog", "--format", "<{{.Name}}>", f"{host}/app") == ""


def test_a_registry_that_deletes_nothing_says_how_it_would(knarr: Knarr) -> None:
    from tests.remote.fakeregistry import FakeRegistry

    with FakeRegistry() as registry, Registry(RegistrySettings(hosts_dirs=()), lambda _: Credentials()) as client:
        universe = Universe()
        universe.push_to(client.repository(Reference.parse(f"{registry.host}/app")), "1")
        registry.fail("DELETE", "/manifests/", status=405, times=9)
        assert "deletion is switched off there" in knarr("delete", f"{registry.host}/app:1", status=1)
