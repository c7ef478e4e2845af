"""A cache of other registries: what is fetched, what is not, and what happens when they fail."""

from __future__ import annotations

import threading
from http.client import IncompleteRead
from pathlib import Path

import pytest

from knarr.record import replace
from knarr.registry.refusal import Refusal
from knarr.registry.routes import Kind, Route
from knarr.registry.server import Registry
from knarr.registry.settings import ServerSettings
from knarr.registry.upstreams import Upstream, foreign, localised
from knarr.remote.repository import Registry as RemoteClient
from knarr.remote.settings import RegistrySettings, RetryBudget
from knarr.scope import Scope
from knarr.session.session import Credentials
from knarr.spec import mediatype
from tests.remote.fakeregistry import FakeRegistry

from .conftest import CONFIG, Client, Running, Start, described, digest, manifest

LARGE = bytes(range(251)) * 40_000


def client() -> RemoteClient:
    settings = RegistrySettings(retry=RetryBudget(attempts=1), dial_timeout_s=2.0, read_timeout_s=2.0)
    return RemoteClient(settings, lambda host: Credentials(), scope=Scope())


@pytest.fixture
def far(start: Start, tmp_path: Path) -> Running:
    return start(root=tmp_path / "far")


def caching(start: Start, host: str, **more: object) -> Client:
    upstream = replace(Upstream(host, prefix="far.example"), **more)
    return start(ServerSettings(upstreams=(upstream,)), client=client).client


@pytest.fixture
def near(start: Start, far: Running) -> Client:
    return caching(start, f"127.0.0.1:{far.client.port}", repositories=("team/*", "library/*"), fresh_s=0.0)


def test_an_image_comes_through_and_is_served_without_its_registry(far: Running, near: Client) -> None:
    name = far.client.push_image("team/app", "v1", LARGE)
    raw = far.client("GET", "/v2/team/app/manifests/v1").body
    for _ in range(2):
        got = near("GET", "/v2/far.example/team/app/manifests/v1")
        assert (got.body, got.headers["Content-Type"], got.headers["Warning"]) == (raw, mediatype.OCI_MANIFEST, None)
        assert near("GET", f"/v2/far.example/team/app/blobs/{digest(LARGE)}").body == LARGE
        assert near("GET", f"/v2/far.example/team/app/blobs/{digest(CONFIG)}").body == CONFIG
        assert near("HEAD", f"/v2/far.example/team/app/blobs/{digest(LARGE)}").headers["Content-Length"] == str(
            len(LARGE)
        )
    far.stop()
    stale = near("GET", "/v2/far.example/team/app/manifests/v1")
    assert stale.body == raw
    assert stale.headers["Warning"].startswith('299 - "served from the cache, since the upstream failed: ')
    by_digest = near("GET", f"/v2/far.example/team/app/manifests/{name}")
    assert (by_digest.body, by_digest.headers["Warning"]) == (raw, None)
    assert near("GET", f"/v2/far.example/team/app/blobs/{digest(LARGE)}", Range="bytes=5-9").body == LARGE[5:10]
    assert near("GET", "/v2/far.example/team/other/manifests/v1").status == 502


def test_a_tag_that_moved_is_seen_and_one_that_is_gone_is_gone(far: Running, near: Client) -> None:
    far.client.push_image("team/app", "v1", b"old")
    near("GET", "/v2/far.example/team/app/manifests/v1")
    moved = far.client.push_image("team/app", "v1", b"new")
    assert near("HEAD", "/v2/far.example/team/app/manifests/v1").headers["Docker-Content-Digest"] == moved
    far.client("DELETE", "/v2/team/app/manifests/v1")
    assert near("GET", "/v2/far.example/team/app/manifests/v1").codes == ["MANIFEST_UNKNOWN"]


def test_the_registry_may_be_named_by_ns_and_only_if_it_is_known(far: Running, near: Client) -> None:
    far.client.push_image("library/base", "v1", b"layer")
    ns = f"127.0.0.1:{far.client.port}"
    assert near("GET", f"/v2/library/base/manifests/v1?ns={ns}").status == 200
    assert near("GET", "/v2/library/base/manifests/v1").status == 404
    for other in ("evil.example", "127.0.0.1:1", "localhost"):
        answer = near("GET", f"/v2/library/base/manifests/v1?ns={other}")
        assert (answer.status, answer.codes) == (403, ["DENIED"])
    assert near("GET", "/v2/far.example/private/x/manifests/v1").codes == ["DENIED"]


def test_a_cache_takes_no_pushes_and_the_rest_of_the_registry_does(far: Running, near: Client) -> None:
    assert near("POST", "/v2/far.example/team/app/blobs/uploads/").codes == ["DENIED"]
    assert near("PUT", "/v2/far.example/team/app/manifests/v1", b"{}").codes == ["DENIED"]
    near.push_image("own/app", "v1", b"layer")
    assert near("GET", "/v2/own/app/manifests/v1").status == 200


def test_tags_and_referrers_come_through_and_stay(far: Running, near: Client) -> None:
    name = far.client.push_image("team/app", "v1", b"layer")
    far.client.push_image("team/app", "v2", b"layer")
    sbom = far.client.push_image(
        "team/app", "", b"sbom", subject=described(manifest(b"layer"), mediatype.OCI_MANIFEST), artifactType="a/b"
    )
    near("GET", "/v2/far.example/team/app/manifests/v1")
    assert near("GET", "/v2/far.example/team/app/tags/list?n=1").json["tags"] == ["v1"]
    listed = near("GET", f"/v2/far.example/team/app/referrers/{name}").json["manifests"]
    assert [(item["digest"], item["artifactType"]) for item in listed] == [(sbom, "a/b")]
    far.stop()
    again = near("GET", f"/v2/far.example/team/app/referrers/{name}")
    assert ([item["digest"] for item in again.json["manifests"]], bool(again.headers["Warning"])) == ([sbom], True)
    assert near("GET", "/v2/far.example/team/app/tags/list").json["tags"] == ["v1"]


def test_a_blob_that_no_image_names_is_not_fetched(far: Running, near: Client) -> None:
    loose = far.client.push_blob("team/app", b"loose")
    assert near("GET", f"/v2/far.example/team/app/blobs/{loose}").codes == ["BLOB_UNKNOWN"]


def filled(fake: FakeRegistry) -> bytes:
    raw = manifest(LARGE)
    for data in (CONFIG, LARGE):
        fake.blobs["team/app", digest(data)] = data
    fake.manifests["team/app", digest(raw)] = (mediatype.OCI_MANIFEST, raw)
    fake.tags["team/app", "v1"] = digest(raw)
    return raw


def test_many_who_want_a_blob_wait_for_one_download(start: Start) -> None:
    with FakeRegistry() as fake:
        near = caching(start, fake.host)
        filled(fake)
        near("GET", "/v2/far.example/team/app/manifests/v1")
        fake.fail("GET", f"blobs/{digest(LARGE)}", hang_s=0.5)
        got: list[bytes] = []

        def pull() -> None:
            got.append(near("GET", f"/v2/far.example/team/app/blobs/{digest(LARGE)}").body)

        threads = [threading.Thread(target=pull) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asked = [seen for seen in fake.seen if seen.method == "GET" and digest(LARGE) in seen.path]
        assert [len(body) for body in got] == [len(LARGE)] * 8
        assert len(asked) <= 2  # one that hung, and its repetition


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_whatever_the_upstream_refuses_what_is_here_is_served(start: Start, status: int) -> None:
    with FakeRegistry() as fake:
        near = caching(start, fake.host, fresh_s=0.0)
        raw = filled(fake)
        near("GET", "/v2/far.example/team/app/manifests/v1")
        fake.fail("HEAD", "manifests", times=99, status=status)
        fake.fail("GET", "manifests", times=99, status=status)
        got = near("GET", "/v2/far.example/team/app/manifests/v1")
        assert (got.status, got.body, bool(got.headers["Warning"])) == (200, raw, True)


def test_a_blob_that_is_a_lie_is_cut_and_not_kept(start: Start) -> None:
    with FakeRegistry() as fake:
        near = caching(start, fake.host)
        filled(fake)
        near("GET", "/v2/far.example/team/app/manifests/v1")
        fake.blobs["team/app", digest(LARGE)] = LARGE[:-1] + b"!"
        with pytest.raises((ConnectionError, IncompleteRead)):
            near("GET", f"/v2/far.example/team/app/blobs/{digest(LARGE)}")
        fake.blobs["team/app", digest(LARGE)] = LARGE
        assert near("GET", f"/v2/far.example/team/app/blobs/{digest(LARGE)}").body == LARGE


def test_a_tag_is_not_asked_for_again_while_it_is_fresh(start: Start) -> None:
    with FakeRegistry() as fake:
        near = caching(start, fake.host)
        filled(fake)
        for _ in range(5):
            assert near("GET", "/v2/far.example/team/app/manifests/v1").status == 200
        assert len([seen for seen in fake.seen if "manifests" in seen.path]) <= 2


def test_without_upstreams_ns_means_nothing() -> None:
    route = Route(Kind.MANIFEST, "library/base", "v1")
    assert localised((), route, "docker.io", "here") == route
    with pytest.raises(Refusal):
        localised((Upstream("docker.io"),), route, "other.example", "here")
    assert localised((Upstream("docker.io"),), route, "here", "here") == route
    assert foreign((Upstream("docker.io"),), "docker.io/library/base") is not None
    assert foreign((Upstream("docker.io"),), "docker.iox/base") is None


def test_a_server_without_a_client_caches_nothing(start: Start) -> None:
    running = start(ServerSettings(upstreams=(Upstream("docker.io"),)))
    assert isinstance(running.registry, Registry)
    assert running.client("GET", "/v2/docker.io/library/x/manifests/v1").status == 404
