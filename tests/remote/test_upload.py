from __future__ import annotations

import io

import pytest

from knarr.errors import DigestMismatch, RegistryError, SizeMismatch
from knarr.remote.repository import Repository
from knarr.remote.settings import RegistrySettings
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference
from knarr.streams import VerifiedReader

from .conftest import FAST, Connect
from .fakeregistry import FakeRegistry
from .material import LAYER, Once, blob, image

CHUNKED = RegistrySettings(hosts_dirs=(), whole_bytes=1000, chunk_bytes=300_000, retry=FAST, read_timeout_s=5.0)


@pytest.fixture
def app(fake: FakeRegistry, connect: Connect) -> Repository:
    return connect().repository(Reference.parse(f"{fake.host}/app"))


@pytest.fixture
def chunked(fake: FakeRegistry, connect: Connect) -> Repository:
    return connect(CHUNKED).repository(Reference.parse(f"{fake.host}/app"))


def methods(fake: FakeRegistry) -> list[str]:
    return [seen.method for seen in fake.seen]


def stored(fake: FakeRegistry, data: bytes = LAYER) -> bool:
    return fake.blobs.get(("app", blob(data).digest)) == data


@pytest.mark.parametrize("data", [b"", b"x", LAYER])
def test_what_can_be_rewound_goes_in_one_put(fake: FakeRegistry, app: Repository, data: bytes) -> None:
    source = io.BytesIO(b"skipped" + data)
    source.seek(7)
    seen: list[int] = []
    app.push(blob(data), source, report=seen.append)

    assert stored(fake, data)
    assert methods(fake) == ["POST", "PUT"]
    assert seen == sorted(seen)
    assert seen[-1:] == ([len(data)] if data else [])


def test_large_content_that_cannot_be_rewound_goes_in_chunks(fake: FakeRegistry, chunked: Repository) -> None:
    chunked.push(blob(LAYER), Once(LAYER))

    assert stored(fake)
    assert [seen.headers["content-range"] for seen in fake.requests("PATCH")] == [
        "0-299999",
        "300000-599999",
        "600000-899999",
        "900000-1023999",
    ]


def test_the_registrys_least_chunk_is_kept(connect: Connect) -> None:
    with FakeRegistry(chunk_min=700_000) as fake:
        connect(CHUNKED).repository(Reference.parse(f"{fake.host}/app")).push(blob(LAYER), Once(LAYER))
        assert stored(fake)
        assert len(fake.requests("PATCH")) == 2


@pytest.mark.parametrize("kept", [0, 400_000, 1_024_000])
def test_a_broken_put_is_resumed_from_where_the_registry_got(fake: FakeRegistry, app: Repository, kept: int) -> None:
    fake.fail("PUT", "/uploads/", swallow=kept)
    app.push(blob(LAYER), io.BytesIO(LAYER))

    assert stored(fake)
    resent = [seen.headers["content-range"] for seen in fake.requests("PATCH")]
    assert resent == {0: [], 400_000: ["400000-1023999"], 1_024_000: []}[kept]


@pytest.mark.parametrize("kept", [0, 123_456, 300_000])
def test_a_broken_chunk_is_sent_again_from_where_the_registry_got(
    fake: FakeRegistry, chunked: Repository, kept: int
) -> None:
    fake.fail("PATCH", "/uploads/", skip=1, swallow=kept)
    chunked.push(blob(LAYER), Once(LAYER))
    assert stored(fake)


def test_an_upload_that_the_registry_forgot_is_begun_again(fake: FakeRegistry, app: Repository) -> None:
    fake.fail("PUT", "/uploads/", status=404, body=b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
    app.push(blob(LAYER), io.BytesIO(LAYER))
    assert stored(fake)
    assert len(fake.requests("POST")) == 2


def test_content_that_is_gone_cannot_be_sent_again(fake: FakeRegistry, chunked: Repository) -> None:
    fake.fail("PATCH", "/uploads/", skip=1, status=404, times=99)
    with pytest.raises(RegistryError, match="cannot be read again"):
        chunked.push(blob(LAYER), Once(LAYER))


def test_a_lost_answer_to_the_last_put_is_no_failure(fake: FakeRegistry, app: Repository) -> None:
    fake.fail("PUT", "/uploads/", swallow=len(LAYER))
    fake.add_blob("app", LAYER)  # it had arrived
    app.push(blob(LAYER), io.BytesIO(LAYER))
    assert methods(fake) == ["POST", "PUT", "HEAD", "DELETE"] or methods(fake) == ["POST", "PUT", "HEAD"]


def test_a_limit_on_bodies_leads_to_chunks(connect: Connect) -> None:
    with FakeRegistry(body_limit=400_000) as fake:
        settings = RegistrySettings(hosts_dirs=(), chunk_bytes=300_000, retry=FAST)
        connect(settings).repository(Reference.parse(f"{fake.host}/app")).push(blob(LAYER), io.BytesIO(LAYER))
        assert stored(fake)


@pytest.mark.parametrize("rewinds", [True, False])
@pytest.mark.parametrize("actual", [LAYER[:-1], LAYER + b"x"])
def test_content_of_another_size_is_refused_and_called_off(
    fake: FakeRegistry, app: Repository, actual: bytes, rewinds: bool
) -> None:
    with pytest.raises(SizeMismatch):
        app.push(blob(LAYER), io.BytesIO(actual) if rewinds else Once(actual))
    assert fake.blobs == {}
    assert fake.uploads == {}


def test_content_with_another_digest_is_refused_by_the_registry(fake: FakeRegistry, app: Repository) -> None:
    with pytest.raises(DigestMismatch):
        app.push(blob(LAYER), io.BytesIO(LAYER[:-1] + b"x"))
    assert fake.blobs == {}


def test_a_source_that_finds_wrong_bytes_fails_before_its_last_piece_is_sent(
    fake: FakeRegistry, app: Repository
) -> None:
    wrong = LAYER[:-1] + b"x"
    with pytest.raises(DigestMismatch):
        app.push(Descriptor("", Digest.of(wrong), len(wrong)), VerifiedReader(Once(wrong), blob(LAYER).digest))
    assert fake.blobs == {}


def test_a_failing_registry_is_given_up_with_its_words(fake: FakeRegistry, app: Repository) -> None:
    fake.fail("POST", "/uploads/", status=500, times=99, body=b"disk full\n")
    with pytest.raises(RegistryError, match="500, internal error of the registry: disk full"):
        app.push(blob(LAYER), io.BytesIO(LAYER))


def test_a_declined_mount_becomes_the_upload(connect: Connect) -> None:
    with FakeRegistry(mounts=False) as fake:
        fake.add_blob("lib", LAYER)
        repository = connect().repository(Reference.parse(f"{fake.host}/app"))
        assert not repository.mount_from(blob(LAYER), "lib")
        repository.push(blob(LAYER), io.BytesIO(LAYER))
        assert stored(fake)
        assert methods(fake) == ["POST", "PUT"]


def test_a_mount_takes_no_upload(fake: FakeRegistry, app: Repository) -> None:
    fake.add_blob("lib", LAYER)
    assert app.mount_from(blob(LAYER), "lib")
    assert stored(fake)
    assert methods(fake) == ["POST"]


def test_a_forbidden_mount_is_only_no(fake: FakeRegistry, app: Repository) -> None:
    fake.fail("POST", "/uploads/", status=403)
    assert not app.mount_from(blob(LAYER), "lib")


def test_a_manifest_and_its_tag_cost_two_requests(fake: FakeRegistry, app: Repository) -> None:
    manifest = image(LAYER)
    app.push(manifest.descriptor, io.BytesIO(manifest.raw))
    app.tag(manifest.descriptor, "1")
    assert fake.tags["app", "1"] == manifest.descriptor.digest
    assert methods(fake) == ["PUT", "PUT"]


def test_a_manifest_that_is_not_what_its_descriptor_says_is_not_sent(fake: FakeRegistry, app: Repository) -> None:
    manifest = image(LAYER)
    with pytest.raises(DigestMismatch):
        app.push_manifest(manifest.descriptor, manifest.raw[:-2] + b" }")
    with pytest.raises(SizeMismatch):
        app.push_manifest(manifest.descriptor, manifest.raw + b" ")
    assert fake.seen == []


def test_tags_come_page_by_page(fake: FakeRegistry, connect: Connect) -> None:
    manifest = image(LAYER)
    for name in "abcde":
        fake.add_manifest("app", name, manifest.raw, manifest.media_type)
    settings = RegistrySettings(hosts_dirs=(), tags_page=2)
    assert list(connect(settings).repository(Reference.parse(f"{fake.host}/app")).tags()) == list("abcde")
    assert len(fake.requests("GET", "/tags/list")) == 3
