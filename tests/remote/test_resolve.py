from __future__ import annotations

import pytest

from knarr.errors import ContentError, DigestMismatch, NotFound
from knarr.remote.repository import Repository
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference

from .conftest import Connect
from .fakeregistry import FakeRegistry
from .material import LAYER, image

IMAGE = image(LAYER)


@pytest.fixture
def app(fake: FakeRegistry, connect: Connect) -> Repository:
    fake.add_manifest("app", "1", IMAGE.raw, IMAGE.media_type)
    return connect().repository(Reference.parse(f"{fake.host}/app"))


def test_a_tag_takes_one_head(fake: FakeRegistry, app: Repository) -> None:
    assert app.resolve("1") == IMAGE.descriptor
    assert [seen.method for seen in fake.seen] == ["HEAD"]
    for kind in ("manifest.v1+json", "index.v1+json", "manifest.v2+json", "manifest.list.v2+json"):
        assert kind in fake.seen[0].headers["accept"]


@pytest.mark.parametrize("missing", ["Docker-Content-Digest", "Content-Type", "Content-Length"])
def test_what_head_does_not_tell_is_learned_by_reading(fake: FakeRegistry, app: Repository, missing: str) -> None:
    fake.fail("HEAD", "/manifests/", headers={missing: ""})
    assert app.resolve("1") == IMAGE.descriptor


def test_a_registry_without_head_is_read(fake: FakeRegistry, app: Repository) -> None:
    fake.fail("HEAD", "/manifests/", status=405)
    assert app.resolve("1") == IMAGE.descriptor


def test_a_digest_that_does_not_match_the_bytes_is_refused(fake: FakeRegistry, app: Repository) -> None:
    lie = Digest.of(b"something else")
    fake.fail("HEAD", "/manifests/", headers={"Content-Type": ""})
    fake.fail("GET", "/manifests/", headers={"Docker-Content-Digest": lie})
    with pytest.raises(DigestMismatch, match=lie):
        app.resolve("1")


def test_an_answer_for_another_digest_is_refused(fake: FakeRegistry, app: Repository) -> None:
    fake.fail("HEAD", "/manifests/", headers={"Docker-Content-Digest": Digest.of(b"other")})
    with pytest.raises(DigestMismatch):
        app.resolve(str(IMAGE.descriptor.digest))


def test_an_unknown_name_is_not_found(app: Repository) -> None:
    with pytest.raises(NotFound, match=r"/app:2: not found"):
        app.resolve("2")


def test_a_web_page_is_no_manifest(fake: FakeRegistry, app: Repository) -> None:
    fake.manifests["app", fake.tags["app", "1"]] = ("text/html", b"<html>log in</html>")
    with pytest.raises(ContentError, match="not JSON"):
        app.resolve("1")
