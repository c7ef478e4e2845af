"""One request among faults: retries, rate limits, redirects, cancellation, and the words of the last error."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from knarr.errors import Cancelled, NotFound, RegistryError
from knarr.remote.settings import RegistrySettings, RetryBudget
from knarr.remote.transport import Quota
from knarr.scope import Scope
from knarr.session.session import Credentials
from knarr.spec.reference import Reference

from .conftest import FAST, Connect
from .fakeregistry import FakeRegistry
from .material import LAYER, blob, image, read

IMAGE = image(LAYER)


@pytest.fixture
def app(fake: FakeRegistry) -> Reference:
    fake.add_manifest("app", "1", IMAGE.raw, IMAGE.media_type)
    fake.add_blob("app", LAYER)
    return Reference.parse(f"{fake.host}/app:1")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_temporary_failures_are_tried_again(fake: FakeRegistry, app: Reference, connect: Connect, status: int) -> None:
    fake.fail("HEAD", "/manifests/", status=status, times=3)

    assert connect().repository(app).resolve("1").digest == IMAGE.descriptor.digest
    assert len(fake.requests("HEAD")) == 4


def test_the_budget_ends_and_the_error_says_what_the_registry_said(
    fake: FakeRegistry, app: Reference, connect: Connect
) -> None:
    body = b'{"errors":[{"code":"UNKNOWN","message":"disk \\u001b[31mon fire"}]}'
    fake.fail("GET", "/blobs/", status=500, times=99, body=body)

    with pytest.raises(RegistryError) as caught:
        read(connect().repository(app), blob(LAYER))

    assert caught.value.codes == ("UNKNOWN",)
    assert caught.value.temporary
    assert f"{fake.host} answered 500, internal error of the registry: UNKNOWN (disk  [31mon fire)" in str(caught.value)
    assert len(fake.requests("GET")) == 5


def test_a_refusal_is_final(fake: FakeRegistry, app: Reference, connect: Connect) -> None:
    fake.fail("HEAD", "/manifests/", status=403, times=99)
    with pytest.raises(RegistryError, match="403, access denied"):
        connect().repository(app).resolve("1")
    assert len(fake.requests("HEAD")) == 1


def test_retry_after_is_waited_for(fake: FakeRegistry, app: Reference, connect: Connect) -> None:
    fake.fail("HEAD", "/manifests/", status=429, headers={"Retry-After": "1"})
    began = time.monotonic()
    connect().repository(app).resolve("1")
    assert time.monotonic() - began >= 1.0


def test_a_retry_after_beyond_patience_is_told_to_the_user(
    fake: FakeRegistry, app: Reference, connect: Connect
) -> None:
    fake.fail("HEAD", "/manifests/", status=429, headers={"Retry-After": "7200"}, times=99)
    with pytest.raises(RegistryError, match="429") as caught:
        connect().repository(app).resolve("1")
    assert "7200 s" in caught.value.hint
    assert len(fake.requests("HEAD")) == 1


def test_quotas_are_remembered_by_host(fake: FakeRegistry, app: Reference, connect: Connect) -> None:
    said = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}
    fake.fail("HEAD", "/manifests/", headers=said)
    client = connect()
    client.repository(app).resolve("1")
    assert client.quotas[fake.host] == Quota(100, 76)


def test_a_warning_is_handed_on_once(fake: FakeRegistry, app: Reference, connect: Connect) -> None:
    fake.fail("HEAD", "/manifests/", headers={"Warning": '299 - "moves next week"'}, times=3)
    told: list[str] = []
    repository = connect(warn=told.append).repository(app)
    for _ in range(3):
        repository.resolve("1")
    assert told == [f"{fake.host}: moves next week"]


def test_a_registry_that_hangs_is_given_up_sooner_than_one_that_fails(
    fake: FakeRegistry, app: Reference, connect: Connect
) -> None:
    fake.fail("HEAD", "/manifests/", hang_s=30, times=99)
    settings = RegistrySettings(hosts_dirs=(), read_timeout_s=0.1, retry=FAST)
    with pytest.raises(RegistryError, match=f"{fake.host} did not answer for 0.1 s"):
        connect(settings).repository(app).resolve("1")
    assert len(fake.requests("HEAD")) == 2


def test_cancellation_wakes_a_request_at_once(fake: FakeRegistry, app: Reference, connect: Connect) -> None:
    fake.fail("HEAD", "/manifests/", hang_s=30, times=99)
    scope = Scope()
    timer = threading.Timer(0.1, scope.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        connect(scope=scope).repository(app).resolve("1")
    assert time.monotonic() - began < 3
    timer.join()


def test_connections_are_kept_and_a_dropped_one_costs_no_retry(
    fake: FakeRegistry, app: Reference, connect: Connect
) -> None:
    settings = RegistrySettings(hosts_dirs=(), retry=RetryBudget(1))
    repository = connect(settings).repository(app)
    repository.resolve("1")
    repository.resolve("1")
    assert fake.connections == 1
    fake.drop_connections()
    repository.resolve("1")
    assert fake.connections == 2


def test_nothing_listening_is_said_so(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RegistryError, match=f"nothing listens at 127.0.0.1:{port}"):
        connect().repository(Reference.parse(f"127.0.0.1:{port}/app")).resolve("1")


def test_a_name_without_an_address_is_said_so(connect: Connect) -> None:
    with pytest.raises(RegistryError, match=r"the name 'no-such-host\.invalid' has no address"):
        connect().repository(Reference.parse("no-such-host.invalid/app")).resolve("1")


def test_what_is_no_registry_is_said_so(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(RegistryError, match="does not answer in HTTP"):
            connect().repository(Reference.parse(f"{host}/app")).resolve("1")
        thread.join()


def test_a_redirect_to_another_host_takes_no_login_along(connect: Connect) -> None:
    with FakeRegistry(login=("ann", "pw")) as registry, FakeRegistry() as storage:
        registry.add_blob("app", LAYER)
        digest = storage.add_blob("bucket", LAYER)
        place = f"{storage.url}/v2/bucket/blobs/{digest}?signature=secret"
        registry.fail("GET", "/blobs/", skip=1, status=307, headers={"Location": place})
        client = connect(login=Credentials("ann", "pw"))

        assert read(client.repository(Reference.parse(f"{registry.host}/app")), blob(LAYER)) == LAYER
        assert "authorization" in registry.seen[-1].headers
        assert "authorization" not in storage.seen[0].headers
        assert storage.seen[0].query == {"signature": ["secret"]}


def test_redirects_in_circles_end(fake: FakeRegistry, app: Reference, connect: Connect) -> None:
    fake.fail("GET", "/blobs/", status=307, headers={"Location": "/v2/app/blobs/again"}, times=99)
    with pytest.raises(RegistryError, match="redirects in circles"):
        read(connect().repository(app), blob(LAYER))


def test_a_mirror_is_asked_first_and_told_whom_it_stands_in_for(
    fake: FakeRegistry, app: Reference, connect: Connect, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("certs.d")
    (root / "real.example").mkdir()
    (root / "real.example" / "hosts.toml").write_text(f'[host."http://{fake.host}"]\n')
    settings = RegistrySettings(hosts_dirs=(str(root),), retry=FAST)
    repository = connect(settings).repository(Reference.parse("real.example/app:1"))

    assert repository.resolve("1").digest == IMAGE.descriptor.digest
    assert fake.seen[0].query == {"ns": ["real.example"]}


def test_a_mirror_that_fails_gives_way_and_rests(connect: Connect, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("certs.d")
    (root / "r.example").mkdir()
    with FakeRegistry() as hanging, FakeRegistry() as empty, FakeRegistry() as real:
        real.add_blob("app", LAYER)
        text = f'server = "http://{real.host}"\n[host."http://{hanging.host}"]\n[host."http://{empty.host}"]\n'
        (root / "r.example" / "hosts.toml").write_text(text)
        hanging.fail("GET", "/", hang_s=30, times=99)
        settings = RegistrySettings(hosts_dirs=(str(root),), read_timeout_s=0.2)
        repository = connect(settings).repository(Reference.parse("r.example/app"))

        for _ in range(3):
            assert read(repository, blob(LAYER)) == LAYER
        assert (len(hanging.seen), len(empty.seen), len(real.seen)) == (1, 3, 3)

        with pytest.raises(NotFound) as caught:
            read(repository, blob(b"nowhere"))
        assert empty.host in caught.value.context["mirrors"]


def test_one_clients_repositories_may_each_have_their_scope(
    fake: FakeRegistry, app: Reference, connect: Connect
) -> None:
    client = connect()
    gone = Scope()
    gone.cancel()
    with pytest.raises(Cancelled):
        client.repository(app, scope=gone).resolve("1")
    assert client.repository(app, scope=Scope()).resolve("1").digest == IMAGE.descriptor.digest


def test_a_closed_client_opens_again_when_it_is_used(fake: FakeRegistry, app: Reference, connect: Connect) -> None:
    client = connect()
    repository = client.repository(app)
    for _ in range(2):
        repository.resolve("1")
        repository.resolve("1")
        client.close()
    assert fake.connections == 2
