from __future__ import annotations

import threading
import time

import pytest

from knarr.errors import Cancelled, DigestMismatch, NotFound, RegistryError, SizeMismatch
from knarr.remote.repository import Repository
from knarr.remote.settings import RegistrySettings
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference

from .conftest import FAST, Connect
from .fakeregistry import FakeRegistry
from .material import LAYER, blob, image, read


@pytest.fixture
def app(fake: FakeRegistry, connect: Connect) -> Repository:
    fake.add_blob("app", LAYER)
    return connect().repository(Reference.parse(f"{fake.host}/app"))


def test_a_cut_download_goes_on_where_it_broke_off(fake: FakeRegistry, app: Repository) -> None:
    fake.fail("GET", "/blobs/", cut_after=300_000)
    fake.fail("GET", "/blobs/", cut_after=200_000)

    assert read(app, blob(LAYER)) == LAYER
    assert [seen.headers.get("range") for seen in fake.requests("GET")] == [None, "bytes=300000-", "bytes=500000-"]


def test_a_download_that_stalls_goes_on_after_what_came(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob("app", LAYER)
    settings = RegistrySettings(hosts_dirs=(), read_timeout_s=0.2, retry=FAST)
    fake.fail("GET", "/blobs/", cut_after=300_000, stall_s=30)

    assert read(connect(settings).repository(Reference.parse(f"{fake.host}/app")), blob(LAYER)) == LAYER
    assert [seen.headers.get("range") for seen in fake.requests("GET")] == [None, "bytes=300000-"]


def test_cancellation_ends_a_download_that_stalls(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob("app", LAYER)
    fake.fail("GET", "/blobs/", cut_after=300_000, stall_s=30)
    scope = Scope()
    timer = threading.Timer(0.2, scope.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        read(connect(scope=scope).repository(Reference.parse(f"{fake.host}/app")), blob(LAYER))
    assert time.monotonic() - began < 3
    timer.join()


def test_many_threads_share_one_client(fake: FakeRegistry, app: Repository) -> None:
    blobs = [bytes([n]) * 200_000 for n in range(12)]
    for data in blobs:
        fake.add_blob("app", data)
    with Scope(limit=6) as scope:
        outcomes = [scope.start(read, app, blob(data)) for data in blobs]
    assert [outcome.result() for outcome in outcomes] == blobs
    assert fake.connections <= 6


def test_a_registry_without_ranges_is_read_again_from_the_start(connect: Connect) -> None:
    with FakeRegistry(ranges=False) as fake:
        fake.add_blob("app", LAYER)
        fake.fail("GET", "/blobs/", cut_after=300_000)
        assert read(connect().repository(Reference.parse(f"{fake.host}/app")), blob(LAYER)) == LAYER


def test_bytes_that_moved_renew_the_budget_but_a_standstill_ends(fake: FakeRegistry, app: Repository) -> None:
    fake.fail("GET", "/blobs/", cut_after=100_000, times=8)
    assert read(app, blob(LAYER)) == LAYER

    fake.fail("GET", "/blobs/", cut_after=0, times=99)
    with pytest.raises(RegistryError, match="broke off") as caught:
        read(app, blob(LAYER))
    assert caught.value.temporary


def test_wrong_bytes_fail_at_the_end_and_not_silently(fake: FakeRegistry, app: Repository) -> None:
    fake.blobs["app", blob(LAYER).digest] = LAYER[:-1] + b"x"
    with pytest.raises(DigestMismatch, match=blob(LAYER).digest):
        read(app, blob(LAYER))


@pytest.mark.parametrize("change", [LAYER[:-1], LAYER + b"more"])
def test_a_wrong_size_fails(fake: FakeRegistry, app: Repository, change: bytes) -> None:
    fake.blobs["app", blob(LAYER).digest] = change
    with pytest.raises(SizeMismatch):
        read(app, blob(LAYER))


def test_going_on_at_the_wrong_place_is_refused(fake: FakeRegistry, app: Repository) -> None:
    fake.fail("GET", "/blobs/", cut_after=300_000)
    fake.fail("GET", "/blobs/", headers={"Content-Range": "bytes 5-1023999/1024000"})
    with pytest.raises(RegistryError, match="to go on at byte 300000, went on at 5"):
        read(app, blob(LAYER))


def test_a_missing_blob_is_not_found(app: Repository) -> None:
    with pytest.raises(NotFound, match="not found"):
        read(app, blob(b"nowhere"))


def test_embedded_content_needs_no_request(fake: FakeRegistry, app: Repository) -> None:
    embedded = Descriptor("application/x", Digest.of(b"{}"), 2, data=b"{}")
    assert read(app, embedded) == b"{}"
    assert fake.seen == []


def test_a_manifest_is_read_whole_and_verified(fake: FakeRegistry, app: Repository) -> None:
    manifest = image(LAYER)
    fake.add_manifest("app", "1", manifest.raw, manifest.media_type)
    assert app.fetch_manifest(manifest.descriptor) == manifest.raw

    fake.manifests["app", manifest.descriptor.digest] = (manifest.media_type, manifest.raw.replace(b"linux", b"LINUX"))
    fake.manifests["app", manifest.descriptor.digest] = (manifest.media_type, manifest.raw[:-2] + b" }")
    with pytest.raises(DigestMismatch):
        app.fetch_manifest(manifest.descriptor)


def test_an_index_that_claims_to_be_huge_is_not_fetched(fake: FakeRegistry, app: Repository) -> None:
    kind = image().media_type
    with pytest.raises(SizeMismatch, match="at most"):
        app.fetch_manifest(Descriptor(kind, Digest.of(b""), 1 << 40))
    assert fake.seen == []
