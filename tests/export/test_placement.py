"""Where attestations go, at registries that refuse this or that, and at real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.attest.keys import LocalKey
from knarr.attest.keys import make as make_key
from knarr.errors import RegistryError, UsageError
from knarr.export.placement import Bears
from knarr.progress import Warned
from knarr.record import replace
from knarr.remote.repository import Registry, Repository
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest, decode
from knarr.spec.reference import Reference
from knarr.trust.gather import gather
from knarr.trust.signing import SignOptions, sign_statement
from knarr.trust.subjects import Subject, unsigned_statements
from tests.remote.conftest import StartRegistry, start_registry  # noqa: F401  # a fixture
from tests.remote.fakeregistry import FakeRegistry

from .test_attestations import attested

ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"
BOTH = ("linux/amd64", "linux/arm64")


@pytest.fixture
def client() -> Iterator[Registry]:
    with Registry(RegistrySettings(hosts_dirs=()), lambda _: Credentials()) as found:
        yield found


def push(world: Any, host: str, store: str = "auto", *platforms: str, tag: str = "1", **about: Any) -> dict[str, Any]:
    """Push an attested image; what the metadata says of it."""
    result = attested(world, *platforms, **about)
    attrs = {"name": f"{host}/team/app:{tag}", "push": "true", "attest_store": store}
    return dict(world.export("image", result, **attrs))


def bare(world: Any, *platforms: str) -> str:
    """The digest without attestations."""
    return str(world.export("image", world.result(*platforms))["containerimage.digest"])


def place_of(client: Registry, host: str) -> Repository:
    return client.repository(Reference.parse(f"{host}/team/app"))


def document(place: Repository, name: str) -> Manifest | Index:
    found = place.resolve(name)
    with place.open(found) as stream:
        return decode(stream.read())


def images(root: Manifest | Index) -> list[Descriptor]:
    entries = root.manifests if isinstance(root, Index) else (root.descriptor,)
    return [entry for entry in entries if entry.platform is None or entry.platform.os != "unknown"]


def found_at(client: Registry, host: str) -> dict[str, str]:
    """Digest of each image of the tag → where its statements were found by somebody who starts from the tag."""
    place = place_of(client, host)
    root = document(place, "1")
    found = {}
    for image in images(root):
        listed = root.manifests if isinstance(root, Index) else ()
        where = []
        if any(entry.annotations.get("vnd.docker.reference.digest") == image.digest for entry in listed):
            where.append("index")
        if place.predecessors(image.bare(), ARTIFACT):
            where.append("referrers")
        if f"sha256-{image.digest.hex}.att" in set(place.tags()):
            where.append("tag")
        found[str(image.digest)] = " ".join(where)
    return found


@pytest.mark.parametrize("api", [True, False])
@pytest.mark.parametrize(
    ("store", "where"),
    [
        ("index", {True: "index referrers", False: "index"}),  # a registry with the API lists whatever has a subject
        ("both", {True: "index referrers", False: "index referrers"}),
        ("referrers", {True: "referrers", False: "referrers"}),
        ("tag", {True: "tag", False: "tag"}),
        ("none", {True: "", False: ""}),
    ],
)
@pytest.mark.parametrize("platforms", [("linux/amd64",), BOTH])
def test_every_place_is_found_from_the_tag(
    world: Any, client: Registry, store: str, where: dict[bool, str], platforms: tuple[str, ...], api: bool
) -> None:
    plain = bare(world, *platforms)
    with FakeRegistry(referrers=api, strict=frozenset({"unseen"})) as registry:
        data = push(world, registry.host, store, *platforms)
        found = found_at(client, registry.host)

    assert set(found.values()) == {where[api]}
    assert len(found) == len(platforms)
    clean = store not in ("index", "both")
    assert (data["containerimage.digest"] == plain) == clean
    running = [plain] if len(platforms) == 1 else [str(e.digest) for e in _entries(world, plain)]
    assert list(found) == running


def _entries(world: Any, digest: str) -> tuple[Descriptor, ...]:
    raw = world.store.read(world.store.resolve(digest))
    index = decode(raw)
    assert isinstance(index, Index)
    return index.manifests


@pytest.mark.parametrize(
    ("strict", "place"),
    [
        ((), "index"),
        (("artifacts", "subjects"), "index-older"),
        (("unknown",), "referrers"),
        (("unknown", "subjects"), "tag"),
        (("unknown", "artifacts"), "tag"),
        (("statements",), "none"),
    ],
)
def test_auto_lands_at_once_and_at_first_try_the_second_time(world: Any, strict: tuple[str, ...], place: str) -> None:
    kinds = frozenset({*strict, "unseen"})
    with FakeRegistry(strict=kinds, referrers="subjects" not in strict) as registry:
        push(world, registry.host)
        assert Bears(world.root / "bears").order(registry.host)[0] == place
        world.recorder.events.clear()
        registry.seen.clear()
        push(world, registry.host, tag="2")
        refused = [seen for seen in registry.requests("PUT", "/manifests/") if seen.path.endswith("/2")]
        registry.tags["team/app", "2"]

    assert len(refused) == 1
    warned = [event.message for event in world.recorder.events if isinstance(event, Warned)]
    assert bool(warned) == (place == "none")


def test_what_was_refused_is_told_with_the_registrys_words(world: Any) -> None:
    with FakeRegistry(strict=frozenset({"unknown"})) as registry:
        push(world, registry.host)
        (warned,) = [event.message for event in world.recorder.events if isinstance(event, Warned)]

        assert warned.startswith(f"{registry.host} does not take attestations as entries of an index: ")
        assert "manifest invalid" in warned


def test_a_registry_that_shows_late_what_it_was_sent_is_waited_for(world: Any, client: Registry) -> None:
    with FakeRegistry(late_s=0.25) as registry:
        push(world, registry.host, "index")
        assert set(found_at(client, registry.host).values()) == {"index referrers"}


@pytest.mark.parametrize("platforms", [("linux/amd64",), BOTH])
def test_a_registry_that_is_strict_in_every_way_and_late_takes_it_at_first_try_the_second_time(
    world: Any, client: Registry, platforms: tuple[str, ...]
) -> None:
    plain = bare(world, *platforms)
    everything = frozenset({"unknown", "artifacts", "subjects", "unseen"})
    with FakeRegistry(strict=everything, referrers=False, late_s=0.25) as registry:
        push(world, registry.host, "auto", *platforms)
        registry.seen.clear()
        data = push(world, registry.host, "auto", *platforms, tag="2")
        places = set(found_at(client, registry.host).values())
        roots = [seen for seen in registry.requests("PUT", "/manifests/") if seen.path.endswith("/2")]

    assert places == {"tag"}
    assert len(roots) == 1
    assert data["containerimage.digest"] == plain


@pytest.mark.parametrize(
    ("store", "kind"), [("index", "unknown"), ("both", "unknown"), ("referrers", "subjects"), ("tag", "statements")]
)
def test_a_place_that_was_asked_for_and_is_refused_fails_and_moves_no_tag(world: Any, store: str, kind: str) -> None:
    with FakeRegistry(strict=frozenset({kind}), referrers=kind != "subjects") as registry:
        with pytest.raises(RegistryError, match=r"manifest invalid|unsupported media type"):
            push(world, registry.host, store)
        assert ("team/app", "1") not in registry.tags


def test_a_registry_that_is_down_is_no_reason_to_try_another_place(world: Any) -> None:
    with FakeRegistry() as registry:
        registry.fail("PUT", "/manifests/", times=99, status=403)
        with pytest.raises(RegistryError) as caught:
            push(world, registry.host)
        assert caught.value.status == 403
        assert Bears(world.root / "bears").order(registry.host)[0] == "index"


def test_an_image_that_is_refused_itself_fails_with_the_first_reason(world: Any) -> None:
    with FakeRegistry() as registry:
        registry.fail("PUT", "/manifests/", times=99, status=400)
        with pytest.raises(RegistryError) as caught:
            push(world, registry.host)
        assert caught.value.status == 400
        assert not (world.root / "bears").exists()


def test_each_registry_has_its_own_memory(world: Any) -> None:
    with FakeRegistry(strict=frozenset({"unknown"})) as old, FakeRegistry() as new:
        push(world, old.host)
        push(world, new.host)
        bears = Bears(world.root / "bears")
        assert (bears.order(old.host)[0], bears.order(new.host)[0]) == ("referrers", "index")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"place": "moon", "since_s": 9e9}', '{"place": "tag", "since_s": 1}'])
def test_a_memory_that_is_broken_or_old_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "h.test.json").write_text(text)
    assert Bears(tmp_path).order("h.test")[0] == "index"


def test_files_are_named_after_platform_and_kind(world: Any, tmp_path: Path) -> None:
    result = attested(world, *BOTH)
    world.export("image", result, name="app", attest_store="file", attest_dest=str(tmp_path / "said"))

    names = sorted(path.name for path in (tmp_path / "said").iterdir())
    assert names == ["linux_amd64.provenance.json", "linux_arm64.provenance.json"]
    statement = json.loads((tmp_path / "said/linux_arm64.provenance.json").read_text())
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"][0]["digest"]["sha256"]


def test_in_the_store_what_lies_beside_has_a_name_and_stays(world: Any) -> None:
    data = world.export("image", attested(world), name="registry.example/app:1", attest_store="referrers")

    digest = Digest.parse(data["containerimage.digest"])
    listed = decode(world.store.read(world.store.resolve(f"registry.example/app:sha256-{digest.hex}")))
    assert isinstance(listed, Index)
    assert [entry.artifact_type for entry in listed.manifests] == [ARTIFACT]


def test_what_somebody_signed_under_the_tag_stays_when_the_image_is_pushed_again(world: Any, client: Registry) -> None:
    with FakeRegistry(referrers=False) as registry:
        data = push(world, registry.host, "tag")
        place = place_of(client, registry.host)
        image = place.resolve("1")
        (said,) = unsigned_statements(place, Subject(image))
        sign_statement(place, image, said, SignOptions((LocalKey(make_key("ecdsa-p256")),), form="tag"))
        assert [piece.is_signed for piece in gather(place, image)] == [False, True]
        again = push(world, registry.host, "tag", tag="2")

        assert again["containerimage.digest"] == data["containerimage.digest"]
        assert [piece.is_signed for piece in gather(place, image)] == [False, True]


def test_a_place_that_is_not_known_is_refused(world: Any) -> None:
    with pytest.raises(UsageError, match="attest-store=moon is not known"):
        world.export("image", world.result(), name="app", attest_store="moon")
    with pytest.raises(UsageError, match="attest-dest is a directory for attest-store=file"):
        world.export("image", world.result(), name="app", attest_dest="x")


@pytest.mark.system
@pytest.mark.parametrize("store", ["index", "both", "referrers", "tag", "none", "auto"])
def test_every_place_lands_at_debians_registry(
    world: Any,
    client: Registry,
    start_registry: StartRegistry,  # noqa: F811
    store: str,
) -> None:
    host = start_registry().host
    push(world, host, store, *BOTH)

    expected = {"index": "index", "both": "index referrers", "referrers": "referrers", "tag": "tag", "none": ""}
    assert set(found_at(client, host).values()) == {expected.get(store, "index")}


def test_a_result_without_attestations_is_pushed_as_ever(world: Any) -> None:
    with FakeRegistry(strict=frozenset({"unseen"})) as registry:
        result = replace(world.result(), attestations=())
        name = f"{registry.host}/team/app:1"
        data = world.export("image", result, name=name, push="true", attest_store="referrers")
        assert registry.tags["team/app", "1"] == data["containerimage.digest"]
        assert len(registry.requests("PUT", "/manifests/")) == 1
