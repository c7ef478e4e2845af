"""Who gets in: passwords, tokens, robots, rules, certificates."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
import time
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode

import bcrypt
import pytest

from knarr.errors import UsageError
from knarr.record import replace
from knarr.registry.certificates import TlsFiles
from knarr.registry.passwords import Passwords, Robot
from knarr.registry.rules import Rule, Rules, matches
from knarr.registry.settings import Auth, ServerSettings
from knarr.registry.tokens import Tokens, scopes

from .conftest import Client, Running, Start, digest
from .pki import Authority

SECRET = "a long random secret"


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    file = tmp_path / "htpasswd"
    file.write_text(f"ann:{hashed('a:nn, 1')}\nbob:{hashed('b')}\n")
    return file


RULES = (
    Rule(("ann",), ("team/**",), ("pull", "push", "delete")),
    Rule(("bob", "robot$ci"), ("team/*",)),
    Rule(("*",), ("home/{user}/**",), ("pull", "push")),
    Rule(("anonymous", "*"), ("public/**",)),
)


@pytest.fixture
def running(start: Start, htpasswd: Path) -> Running:
    robots = (
        Robot("ci", hashlib.sha256(SECRET.encode()).hexdigest()),
        Robot("old", hashlib.sha256(SECRET.encode()).hexdigest(), expires=1.0),
    )
    return start(ServerSettings(auth=Auth(htpasswd, robots=robots, rules=RULES)))


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def login(running: Running, name: str, password: str) -> Client:
    return Client(running.client.port, Authorization=basic(name, password))


def token(running: Running, *asked: str, who: str = "") -> str:
    query = urlencode([("service", "knarr registry"), *(("scope", scope) for scope in asked)])
    headers = {"Authorization": who} if who else {}
    answer = running.client("GET", f"/token?{query}", **headers)
    assert answer.status == 200, answer
    return str(answer.json["token"])


def bearer(running: Running, *asked: str, who: str = "") -> Client:
    return Client(running.client.port, Authorization="Bearer " + token(running, *asked, who=who))


ANN, BOB = basic("ann", "a:nn, 1"), basic("bob", "b")


def test_rules_say_who_may_what(running: Running) -> None:
    ann, bob, ci = login(running, "ann", "a:nn, 1"), login(running, "bob", "b"), login(running, "robot$ci", SECRET)
    name = ann.push_image("team/app", "v1", b"layer")
    for reader in (ann, bob, ci):
        assert reader("GET", "/v2/team/app/manifests/v1").status == 200
    assert bob("PUT", "/v2/team/app/manifests/v2", b"{}").codes == ["DENIED"]
    assert bob("DELETE", f"/v2/team/app/manifests/{name}").status == 403
    assert ci("POST", "/v2/team/app/blobs/uploads/").status == 403
    assert bob("GET", "/v2/team/deep/er/tags/list").status == 403
    assert ann("POST", "/v2/elsewhere/blobs/uploads/").status == 403
    assert bob("POST", "/v2/home/bob/x/blobs/uploads/").status == 202
    assert bob("POST", "/v2/home/ann/x/blobs/uploads/").status == 403


def test_who_may_not_read_cannot_tell_what_exists(running: Running) -> None:
    login(running, "ann", "a:nn, 1").push_image("team/deep/app", "v1", b"layer")
    bob = login(running, "bob", "b")
    for path in ("manifests/v1", "manifests/v9", "tags/list", f"referrers/{digest(b'x')}"):
        there, not_there = bob("GET", f"/v2/team/deep/app/{path}"), bob("GET", f"/v2/team/deep/none/{path}")
        assert (there.status, there.codes) == (not_there.status, not_there.codes) == (403, ["DENIED"])
        assert running.client("GET", f"/v2/team/deep/app/{path}").status == 401


def test_the_challenge_names_the_scope_and_a_token_of_it_lets_in(running: Running) -> None:
    refused = running.client("POST", "/v2/team/app/blobs/uploads/")
    assert (refused.status, refused.codes) == (401, ["UNAUTHORIZED"])
    realm = f'Bearer realm="http://127.0.0.1:{running.client.port}/token",service="knarr registry"'
    assert refused.headers["WWW-Authenticate"] == realm + ',scope="repository:team/app:pull,push"'
    assert (
        bearer(running, "repository:team/app:pull,push", who=ANN)("POST", "/v2/team/app/blobs/uploads/").status == 202
    )


def test_a_token_does_no_more_than_it_was_asked_for(running: Running) -> None:
    login(running, "ann", "a:nn, 1").push_image("team/app", "v1", b"layer")
    reading = bearer(running, "repository:team/app:pull", who=ANN)
    assert reading("GET", "/v2/team/app/manifests/v1").status == 200
    more = reading("DELETE", "/v2/team/app/manifests/v1")
    assert (more.status, "delete" in more.headers["WWW-Authenticate"]) == (401, True)
    assert reading("GET", "/v2/team/other/tags/list").status == 401


def test_a_right_that_was_taken_away_is_gone_though_a_token_says_otherwise(running: Running) -> None:
    issuer = running.registry._guard.tokens  # type: ignore[union-attr]
    assert issuer is not None
    generous = issuer.issue("bob", {"team/app": ("pull", "push", "delete")})
    client = Client(running.client.port, Authorization=f"Bearer {generous}")
    assert client("POST", "/v2/team/app/blobs/uploads/").status == 401


@pytest.mark.parametrize("lie", ["forged", "expired", "other service", "no signature", "nonsense", "refresh"])
def test_tokens_that_are_not_ours_are_refused(running: Running, lie: str) -> None:
    issuer = running.registry._guard.tokens  # type: ignore[union-attr]
    assert issuer is not None
    access = {"team/app": ("pull",)}
    good = issuer.issue("ann", access)
    text = {
        "forged": Tokens(os.urandom(32), issuer.service).issue("ann", access),
        "expired": issuer.issue("ann", access, now=time.time() - 1000),
        "other service": Tokens(issuer._key, "other").issue("ann", access),
        "no signature": ".".join([base64.urlsafe_b64encode(b'{"alg":"none"}').decode(), good.split(".")[1], ""]),
        "nonsense": "a.b.c",
        "refresh": issuer.issue_refresh("ann", 100),
    }[lie]
    answer = running.client("GET", "/v2/team/app/tags/list", Authorization=f"Bearer {text}")
    assert (answer.status, 'error="invalid_token"' in answer.headers["WWW-Authenticate"]) == (401, True)


def test_nobody_may_read_what_is_public_and_only_that(running: Running) -> None:
    anybody = bearer(running, "repository:public/app:pull,push")
    assert anybody("GET", "/v2/public/app/tags/list").codes == ["NAME_UNKNOWN"]
    assert anybody("POST", "/v2/public/app/blobs/uploads/").status == 401
    assert running.client("GET", "/v2/public/app/tags/list").codes == ["NAME_UNKNOWN"]


@pytest.mark.parametrize(
    ("name", "password"),
    [("ann", "wrong"), ("nobody", "x"), ("robot$old", SECRET), ("robot$ci", "x"), ("ann", "a:nn, 1\0"), ("", "")],
)
def test_a_wrong_login_is_refused_everywhere(running: Running, name: str, password: str) -> None:
    assert login(running, name, password)("GET", "/v2/public/app/tags/list").status == 401
    assert (
        running.client("GET", "/token?scope=repository:public/app:pull", Authorization=basic(name, password)).status
        == 401
    )


def test_tokens_by_form_and_by_refresh(running: Running) -> None:
    def post(**fields: str) -> tuple[int, dict[str, str]]:
        answer = running.client("POST", "/token", urlencode(fields))
        return answer.status, answer.json

    scope = "repository:team/app:pull,push registry:catalog:*"
    status, got = post(grant_type="password", username="ann", password="a:nn, 1", scope=scope, access_type="offline")
    assert status == 200
    status, again = post(grant_type="refresh_token", refresh_token=got["refresh_token"], scope=scope)
    client = Client(running.client.port, Authorization=f"Bearer {again['access_token']}")
    assert client("POST", "/v2/team/app/blobs/uploads/").status == 202
    assert post(grant_type="refresh_token", refresh_token=got["access_token"])[0] == 401
    assert post(grant_type="password", username="ann", password="no")[0] == 401
    assert post(grant_type="magic")[0] == 400


def test_tokens_survive_a_restart(start: Start, running: Running) -> None:
    kept = token(running, "repository:team/app:pull,push", who=ANN)
    settings = replace(running.registry.settings, port=0)
    running.stop()
    again = start(settings)
    assert again.client("POST", "/v2/team/app/blobs/uploads/", Authorization=f"Bearer {kept}").status == 202


def test_a_mount_without_a_source_gives_only_what_the_caller_may_read(running: Running) -> None:
    secret = login(running, "ann", "a:nn, 1").push_blob("team/deep/secret", b"secret")
    shared = login(running, "ann", "a:nn, 1").push_blob("team/shared", b"shared")
    bob = bearer(running, "repository:home/bob/x:pull,push", who=BOB)
    for query, status in ((f"mount={secret}", 202), (f"mount={secret}&from=team/deep/secret", 202)):
        assert bob("POST", f"/v2/home/bob/x/blobs/uploads/?{query}").status == status
    assert bob("POST", f"/v2/home/bob/x/blobs/uploads/?mount={shared}").status == 201


def test_the_catalog_shows_what_the_caller_may_read(running: Running) -> None:
    ann = login(running, "ann", "a:nn, 1")
    for name in ("team/app", "team/deep/app"):
        ann.push_image(name, "v1", b"layer")
    assert ann("GET", "/v2/_catalog").json["repositories"] == ["team/app", "team/deep/app"]
    assert login(running, "bob", "b")("GET", "/v2/_catalog").json["repositories"] == ["team/app"]
    assert running.client("GET", "/v2/_catalog").json["repositories"] == []


def test_without_rules_everybody_who_logs_in_may_everything(start: Start, htpasswd: Path) -> None:
    running = start(ServerSettings(auth=Auth(htpasswd, anonymous_read=True, tokens=False)))
    assert running.client("GET", "/v2/").headers["WWW-Authenticate"].startswith("Basic ")
    login(running, "bob", "b").push_image("any/thing", "v1", b"layer")
    assert running.client("GET", "/v2/any/thing/manifests/v1").status == 200
    assert running.client("DELETE", "/v2/any/thing/manifests/v1").status == 401


def test_reading_for_everybody_alone_lets_nobody_push(start: Start) -> None:
    client = start(ServerSettings(auth=Auth(anonymous_read=True))).client
    assert client("GET", "/v2/a/tags/list").codes == ["NAME_UNKNOWN"]
    assert client("POST", "/v2/a/blobs/uploads/").status == 401


def test_the_password_file_is_read_again_when_it_changes(running: Running, htpasswd: Path) -> None:
    htpasswd.write_text(f"ann:{hashed('new')}\n")
    assert login(running, "ann", "a:nn, 1")("GET", "/v2/").status == 401
    assert login(running, "ann", "new")("GET", "/v2/").status == 200
    htpasswd.write_text("ann:half")
    assert login(running, "ann", "new")("GET", "/v2/").status == 200


def test_only_bcrypt_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text("ann:$apr1$x$y\n")
    with pytest.raises(UsageError, match="htpasswd:1: the password of 'ann' is not hashed with bcrypt"):
        Passwords(file)


@pytest.mark.parametrize(
    ("pattern", "repository", "fits"),
    [
        ("**", "a/b/c", True),
        ("team/*", "team/app", True),
        ("team/*", "team/app/x", False),
        ("team/**", "team/app/x", True),
        ("**/app", "app", True),
        ("**/app", "a/b/app", True),
        ("a?", "ab", True),
        ("a.b", "axb", False),
        ("home/{user}/*", "home/a+b/x", True),
        ("home/{user}/*", "home/aab/x", False),
    ],
)
def test_wildcards_of_repositories(pattern: str, repository: str, fits: bool) -> None:
    assert matches(pattern, repository, "a+b") is fits


def test_nobody_is_not_a_user() -> None:
    assert not Rules((Rule(("*",), ("home/{user}",)),)).caller("").may("pull", "home/")


def test_scopes_are_read_and_what_is_not_understood_left_out() -> None:
    asked = scopes(
        ["repository:a/b:pull,push repository(plugin):c:*", "registry:catalog:*", "repository:h:5000/x:pull", "x"]
    )
    assert asked == {"a/b": ("pull", "push"), "c": ("pull", "push", "delete"), "h:5000/x": ("pull",)}


def secure(running: Running, authority: Authority, **more: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=authority.ca)
    if more:
        context.load_cert_chain(more["cert"], more["key"])
    connection = HTTPSConnection("localhost", running.client.port, context=context, timeout=10)
    connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    return connection.sock


def ask(link: ssl.SSLSocket, path: str) -> bytes:
    link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    parts = []
    while data := link.recv(4096):
        parts.append(data)
    link.close()
    return b"".join(parts)


def test_a_certificate_that_was_renewed_is_shown_to_the_next_connection(start: Start, authority: Authority) -> None:
    files = authority.issue("localhost")
    running = start(ServerSettings(tls=TlsFiles(*files)))
    with secure(running, authority) as link:
        before = link.getpeercert(binary_form=True)
    fresh = authority.issue("localhost", file="fresh")
    os.replace(fresh[1], files[1])
    time.sleep(1.2)  # one of the two is new: the old pair stays in use
    with secure(running, authority) as link:
        assert link.getpeercert(binary_form=True) == before
    os.replace(fresh[0], files[0])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with secure(running, authority) as link:
            if link.getpeercert(binary_form=True) != before:
                break
        time.sleep(0.1)
    else:
        raise AssertionError(running.told)


def test_a_client_certificate_is_a_login(start: Start, authority: Authority) -> None:
    auth = Auth(rules=(Rule(("cert:node-1",), ("**",), ("pull",)),))
    files = TlsFiles(*authority.issue("localhost"), client_ca=authority.ca)
    running = start(ServerSettings(tls=files, auth=auth))
    certificate, key = authority.issue("node-1")
    other, other_key = Authority(authority.ca.parent / "other").issue("node-1")

    assert b"NAME_UNKNOWN" in ask(secure(running, authority, cert=str(certificate), key=str(key)), "/v2/a/tags/list")
    assert b"401" in ask(secure(running, authority), "/v2/a/tags/list")
    try:
        got = ask(secure(running, authority, cert=str(other), key=str(other_key)), "/v2/a/tags/list")
    except (ssl.SSLError, ConnectionError):
        return
    assert b"HTTP" not in got, got


def test_files_that_are_no_certificate_are_told(start: Start, tmp_path: Path, authority: Authority) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no")
    _, key = authority.issue("localhost")
    for certificate in (nonsense, tmp_path / "absent.pem"):
        with pytest.raises(UsageError, match=certificate.name):
            start(ServerSettings(tls=TlsFiles(certificate, key)))


def test_the_document_of_a_token_is_what_clients_read(running: Running) -> None:
    answer = running.client("GET", "/token?scope=repository:team/app:pull&offline_token=true", Authorization=ANN)
    assert set(answer.json) == {"token", "access_token", "expires_in", "issued_at", "refresh_token"}
    claims = json.loads(base64.urlsafe_b64decode(answer.json["token"].split(".")[1] + "=="))
    assert claims["access"] == [{"type": "repository", "name": "team/app", "actions": ["pull"]}]
