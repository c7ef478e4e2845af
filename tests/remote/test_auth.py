from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from knarr.errors import RegistryError
from knarr.remote.auth import Asked, Authorizer, Replied, pull, push
from knarr.remote.hosts import Endpoint
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.remote.url import parse
from knarr.session.session import Credentials
from knarr.spec.reference import Reference

from .conftest import FAST, Connect
from .fakeregistry import FakeRegistry
from .material import LAYER, Once, blob, image, read

ANN = ("ann", "s3cret")
LOGIN = Credentials(*ANN)
ENDPOINT = Endpoint(parse("https://r.example").origin, "/v2", accounts=("r.example",))
BEARER = ['Bearer realm="https://r.example/token",service="r",scope="repository:app:pull"']


class TokenServer:
    """Answers token requests from a script and remembers them."""

    def __init__(self, *replies: Replied) -> None:
        self.asked: list[Asked] = []
        self._replies = list(replies)

    def __call__(self, endpoint: Endpoint, asked: Asked) -> Replied:
        self.asked.append(asked)
        if self._replies:
            return self._replies.pop(0)
        return Replied(200, {"token": f"t{len(self.asked)}", "expires_in": 300}, "")


def authorizer(
    server: TokenServer, login: Credentials = LOGIN, *, clock: Callable[[], float] = lambda: 0.0
) -> Authorizer:
    return Authorizer(lambda _: login, server, clock=clock)


def test_nothing_is_said_before_the_registry_asks() -> None:
    assert authorizer(TokenServer()).header(ENDPOINT, "app", pull("app")) == ""


def test_a_token_serves_again_for_the_same_right_and_for_less() -> None:
    server = TokenServer()
    auth = authorizer(server)

    assert auth.refused(ENDPOINT, "app", push("app"), BEARER, "") == "Bearer t1"
    assert auth.header(ENDPOINT, "app", push("app")) == "Bearer t1"
    assert auth.header(ENDPOINT, "app", pull("app")) == "Bearer t1"
    assert auth.header(ENDPOINT, "other", pull("other")) == "Bearer t2"
    assert server.asked[0].target.target == "/token?service=r&scope=repository%3Aapp%3Apull%2Cpush"


def test_a_mount_asks_for_the_rights_in_both_repositories() -> None:
    server = TokenServer()
    authorizer(server).refused(ENDPOINT, "app", push("app") | pull("lib"), BEARER, "")

    query = server.asked[0].target.target
    assert "scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Alib%3Apull" in query


def test_a_token_is_renewed_before_its_end() -> None:
    now = [0.0]
    auth = authorizer(TokenServer(), clock=lambda: now[0])
    auth.refused(ENDPOINT, "app", pull("app"), BEARER, "")

    now[0] = 289.0
    assert auth.header(ENDPOINT, "app", pull("app")) == "Bearer t1"
    now[0] = 291.0
    assert auth.header(ENDPOINT, "app", pull("app")) == "Bearer t2"


def test_a_token_that_was_refused_is_not_offered_again() -> None:
    auth = authorizer(TokenServer())
    first = auth.refused(ENDPOINT, "app", pull("app"), BEARER, "")
    assert auth.refused(ENDPOINT, "app", pull("app"), BEARER, first) == "Bearer t2"


def test_threads_that_need_the_same_token_ask_once() -> None:
    together = threading.Barrier(4)
    server = TokenServer()

    def slow(endpoint: Endpoint, asked: Asked) -> Replied:
        release.wait(5)
        return server(endpoint, asked)

    release = threading.Event()
    auth = Authorizer(lambda _: LOGIN, slow)
    values: list[str] = []

    def ask() -> None:
        together.wait()
        values.append(auth.refused(ENDPOINT, "app", pull("app"), BEARER, ""))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    together.wait()
    release.set()
    for thread in threads:
        thread.join()

    assert len(server.asked) == 1
    assert values == ["Bearer t1"] * 3


def test_an_identity_token_is_exchanged_by_post() -> None:
    server = TokenServer(Replied(200, {"access_token": "a1"}, ""))
    auth = authorizer(server, Credentials(identity_token="id"))

    assert auth.refused(ENDPOINT, "app", pull("app"), BEARER, "") == "Bearer a1"
    assert server.asked[0].method == "POST"
    assert b"grant_type=refresh_token&refresh_token=id&service=r" in (server.asked[0].form or b"")


@pytest.mark.parametrize("status", [404, 405])
def test_a_token_server_without_get_is_asked_by_post(status: int) -> None:
    server = TokenServer(Replied(status, {}, ""))
    assert authorizer(server).refused(ENDPOINT, "app", pull("app"), BEARER, "") == "Bearer t2"
    assert [asked.method for asked in server.asked] == ["GET", "POST"]


def test_a_login_is_never_sent_to_a_realm_without_tls() -> None:
    server = TokenServer()
    with pytest.raises(RegistryError, match="without TLS"):
        authorizer(server).refused(ENDPOINT, "app", pull("app"), ['Bearer realm="http://r.example/token"'], "")
    assert server.asked == []


def test_a_registry_token_is_sent_as_it_is() -> None:
    auth = authorizer(TokenServer(), Credentials(registry_token="given"))
    assert auth.refused(ENDPOINT, "app", pull("app"), BEARER, "") == "Bearer given"
    assert auth.refused(ENDPOINT, "app", pull("app"), BEARER, "Bearer given") == ""


def test_a_refused_basic_login_is_not_repeated() -> None:
    auth = authorizer(TokenServer())
    first = auth.refused(ENDPOINT, "app", pull("app"), ['Basic realm="x"'], "")
    assert first == "Basic YW5uOnMzY3JldA=="
    assert auth.header(ENDPOINT, "app", pull("app")) == first
    assert auth.refused(ENDPOINT, "app", pull("app"), ['Basic realm="x"'], first) == ""


def test_logins_by_repository_are_asked_for_first() -> None:
    asked: list[str] = []

    def credentials(name: str) -> Credentials:
        asked.append(name)
        return Credentials()

    Authorizer(credentials, TokenServer()).login(ENDPOINT, "team/app")
    assert asked == ["r.example/team/app", "r.example"]


def test_a_push_and_a_pull_pass_a_token_registry(connect: Connect) -> None:
    with FakeRegistry(tokens=True, login=ANN) as fake:
        fake.add_blob("lib", b"shared")
        repository = connect(login=LOGIN).repository(Reference.parse(f"{fake.host}/app"))
        repository.push(blob(LAYER), Once(LAYER))
        assert repository.mount_from(blob(b"shared"), "lib")
        repository.push_manifest(image(LAYER).descriptor, image(LAYER).raw, tag="1")

        assert read(repository, blob(LAYER)) == LAYER
        assert repository.resolve("1").digest == image(LAYER).descriptor.digest


def test_an_expired_token_is_renewed_in_the_middle_of_a_push(connect: Connect) -> None:
    with FakeRegistry(tokens=True, login=ANN) as fake:
        settings = RegistrySettings(hosts_dirs=(), whole_bytes=1000, chunk_bytes=300_000, retry=FAST)
        repository = connect(settings, LOGIN).repository(Reference.parse(f"{fake.host}/app"))
        sent: list[int] = []

        def report(done: int) -> None:
            sent.append(done)
            fake.expire_tokens()

        repository.push(blob(LAYER), Once(LAYER), report=report)

        assert read(repository, blob(LAYER)) == LAYER
        assert len(fake.requests("GET", "/token")) > 2


def test_an_identity_token_works_against_a_server(connect: Connect) -> None:
    with FakeRegistry(tokens=True, login=ANN, identity_token="id") as fake:
        fake.add_blob("app", LAYER)
        client = connect(login=Credentials(identity_token="id"))
        assert read(client.repository(Reference.parse(f"{fake.host}/app")), blob(LAYER)) == LAYER


def test_a_wrong_password_at_the_token_server_names_the_user(connect: Connect) -> None:
    with FakeRegistry(tokens=True, login=ANN) as fake:
        client = connect(login=Credentials("ann", "wrong"))
        with pytest.raises(RegistryError, match=r"refused the login of 'ann'.*incorrect username") as caught:
            client.repository(Reference.parse(f"{fake.host}/app")).resolve("1")
        assert caught.value.hint == f"log in with: knarr login {fake.host}"
        assert "wrong" not in caught.value.render()


def test_a_token_server_in_trouble_is_asked_again(connect: Connect) -> None:
    with FakeRegistry(tokens=True, login=ANN) as fake:
        fake.add_blob("app", LAYER)
        fake.fail("GET", "/token", status=503, times=2)
        client = connect(login=LOGIN)
        assert read(client.repository(Reference.parse(f"{fake.host}/app")), blob(LAYER)) == LAYER


def test_ping_tells_whether_the_registry_wanted_a_login(connect: Connect) -> None:
    with FakeRegistry(tokens=True, login=ANN) as asking, FakeRegistry() as silent:
        client: Registry = connect(login=LOGIN)
        assert client.ping(asking.host) is True
        assert client.ping(silent.host) is False
