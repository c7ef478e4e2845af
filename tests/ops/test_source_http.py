"""Files behind URLs as sources: from a real server on the loopback into real snapshots."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.errors import Cancelled, DigestMismatch, KnarrError, RegistryError, UsageError
from knarr.llb.ops import SourceOp
from knarr.ops import source_http
from knarr.ops.fetched import Fetched
from knarr.ops.world import World
from knarr.record import replace
from knarr.remote.repository import Registry
from knarr.remote.settings import Proxies, RegistrySettings, RetryBudget
from knarr.session.session import Credentials, Secret

from .conftest import meta
from .servers import OLD, FileServer, Page, file_server, secure

pytestmark = pytest.mark.root


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def patient(world: World, **settings: object) -> World:
    """`world` with a client that does not wait between tries."""
    chosen = RegistrySettings(retry=RetryBudget(4, 0.001), **settings)  # type: ignore[arg-type]
    registry = Registry(chosen, lambda _: Credentials())
    return replace(world, registry=lambda: registry)


def resolve(world: World, url: str, **attrs: str) -> Fetched:
    return source_http.resolve(
        replace(world, answers={}), SourceOp(url, {f"http.{k}": v for k, v in attrs.items()}), "v"
    )


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


Fetch = Callable[..., Path]


@pytest.fixture
def fetch(overlay: World) -> Fetch:
    """A function that gives the one file of a URL."""
    count = iter(range(100))
    world = patient(overlay)

    def fetched(url: str, **attrs: str) -> Path:
        name = f"fetched-{next(count)}"
        resolve(world, url, **attrs).make(name)
        (path,) = overlay.snapshotter.layers(name)[0].iterdir()
        return path

    return fetched


class Lending:
    def __init__(self, secrets: dict[str, str]) -> None:
        self.secrets = secrets

    def secret(self, id: str) -> Secret | None:
        return Secret(self.secrets[id].encode()) if id in self.secrets else None


def lending(world: World, secrets: dict[str, str]) -> World:
    return replace(world, session=Lending(secrets))


def test_mode_owner_and_time_when_nothing_is_said(fetch: Fetch, server: FileServer) -> None:
    server.pages["/d/f.txt"] = Page(b"hello", modified=OLD)
    path = fetch(server.url("/d/f.txt"))
    assert (path.name, path.read_bytes()) == ("f.txt", b"hello")
    assert meta(path) == (0o600, 0, 0, OLD)


def test_without_a_last_modified_it_is_of_1970(fetch: Fetch, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x")
    assert meta(fetch(server.url("/f")))[3] == 0


def test_mode_owner_and_name_as_they_are_said(fetch: Fetch, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x")
    path = fetch(server.url("/f"), filename="other", perm="0644", uid="12", gid="34")
    assert path.name == "other"
    assert meta(path)[:3] == (0o644, 12, 34)


@pytest.mark.parametrize(
    ("path", "disposition", "name"),
    [
        ("/a/b.txt", "", "b.txt"),
        ("/a%20b", "", "a b"),
        ("/a/?q=/c", "", "a"),
        ("/", "", "download"),
        ("/x", 'attachment; filename="../../etc/y"', "y"),
        ("/x", "attachment; filename*=utf-8''n%C3%A4me", "näme"),
        ("/x", "attachment; filename=d/", "x"),
    ],
)
def test_names(path: str, disposition: str, name: str) -> None:
    source = source_http.parse(SourceOp("https://example.com" + path))
    assert source_http.file_name(source, disposition) == name


def test_a_server_may_name_the_file(fetch: Fetch, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x", headers={"Content-Disposition": 'attachment; filename="named"'})
    assert fetch(server.url("/f")).name == "named"


def test_the_key_follows_content_name_mode_and_time(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x", modified=OLD)
    url = server.url("/f")
    first = resolve(overlay, url).key
    assert resolve(overlay, url).key == first
    assert first not in (resolve(overlay, url, perm="0755").key, resolve(overlay, url, filename="g").key)
    server.pages["/f"] = Page(b"y", modified=OLD + 1)
    second = resolve(overlay, url).key
    server.pages["/f"] = Page(b"y", modified=OLD + 2)
    assert len({first, second, resolve(overlay, url).key}) == 3


@pytest.mark.parametrize("page", [Page(b"x" * 9, etag='"1"'), Page(b"x" * 9, modified=OLD)])
def test_what_did_not_change_is_not_sent_again(fetch: Fetch, server: FileServer, page: Page) -> None:
    server.pages["/f"] = page
    fetch(server.url("/f"))
    assert fetch(server.url("/f")).read_bytes() == b"x" * 9
    assert server.statuses() == [200, 304]
    page.body, page.etag, page.modified = b"y", page.etag and '"2"', page.modified and OLD + 9
    assert fetch(server.url("/f")).read_bytes() == b"y"
    assert server.statuses() == [200, 304, 200]


def test_what_was_pruned_is_fetched_again_although_it_did_not_change(
    fetch: Fetch, overlay: World, server: FileServer
) -> None:
    server.pages["/f"] = Page(b"x", etag='"1"')
    fetch(server.url("/f"))
    overlay.store.delete(next(digest for digest, _ in overlay.store.walk()))
    assert fetch(server.url("/f")).read_bytes() == b"x"
    assert server.statuses() == [200, 304, 200]


def test_a_damaged_note_is_as_none(fetch: Fetch, overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x", etag='"1"')
    fetch(server.url("/f"))
    for note in (overlay.settings.root / "http").iterdir():
        note.write_text("[]")
    fetch(server.url("/f"))
    assert server.statuses() == [200, 200]


def test_a_checksum_needs_no_server_until_the_file_is_wanted(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x")
    found = resolve(overlay, server.url("/f"), checksum=sha256(b"x"))
    assert found.pinned
    assert server.statuses() == []
    found.make("made")
    assert server.statuses() == [200]
    resolve(overlay, server.url("/f"), checksum=sha256(b"x")).make("again")
    assert server.statuses() == [200]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_wrong_checksum_names_both(overlay: World, server: FileServer, algorithm: str) -> None:
    server.pages["/f"] = Page(b"x")
    right, wrong = (f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}" for data in (b"x", b"y"))
    resolve(overlay, server.url("/f"), checksum=right).make("made")
    with pytest.raises(DigestMismatch, match=f"/f: the checksum is {right}, but {wrong} was expected"):
        resolve(overlay, server.url("/f"), checksum=wrong).make("other")


def test_redirects_are_followed_without_the_login(overlay: World, server: FileServer) -> None:
    with file_server() as other:
        server.pages["/f"] = Page(status=302, headers={"Location": "g"}, login="Bearer t")
        server.pages["/g"] = Page(status=307, headers={"Location": other.url("/h")}, login="Bearer t")
        other.pages["/h"] = Page(b"there")
        world = lending(overlay, {"HTTP_AUTH_TOKEN_127.0.0.1": "t"})
        resolve(world, server.url("/f")).make("made")
        assert server.statuses() == [302, 307]
        assert "authorization" not in other.seen[0].headers


def test_redirects_in_circles_end(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(status=301, headers={"Location": "/f"})
    with pytest.raises(RegistryError, match="more than 10 redirects"):
        resolve(overlay, server.url("/f"))


@pytest.mark.parametrize(
    "secrets",
    [{"HTTP_AUTH_HEADER_127.0.0.1": "Basic dTpw\n"}, {"named": "Basic dTpw", "HTTP_AUTH_TOKEN_127.0.0.1": "t"}],
)
def test_logins_are_lent_as_secrets(overlay: World, server: FileServer, secrets: dict[str, str]) -> None:
    server.pages["/f"] = Page(b"x", login="Basic dTpw")
    attrs = {"authheadersecret": "named"} if "named" in secrets else {}
    resolve(lending(overlay, secrets), server.url("/f"), **attrs)
    assert server.statuses() == [200]


def test_a_url_may_carry_its_login(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x", login="Basic dTpw")
    resolve(overlay, f"http://u:p@{server.address}/f")
    assert server.statuses() == [200]
    with pytest.raises(RegistryError, match=r"/f: 127\.0\.0\.1:\d+: invalid response status 401") as caught:
        resolve(overlay, f"http://u:wr0ng@{server.address}/f?token=wr0ng")
    assert "--secret id=HTTP_AUTH_TOKEN_127.0.0.1" in caught.value.hint
    assert "wr0ng" not in caught.value.render()


def test_a_download_that_breaks_off_goes_on_where_it_was(overlay: World, server: FileServer) -> None:
    body = os.urandom(3 << 20)
    server.pages["/f"] = Page(body, etag='"1"', cuts=[1 << 20, 1 << 20])
    resolve(patient(overlay), server.url("/f")).make("made")
    assert server.statuses() == [200, 206, 206]
    assert (overlay.snapshotter.layers("made")[0] / "f").read_bytes() == body


@pytest.mark.parametrize("page", [Page(), Page(etag='W/"1"'), Page(etag='"1"', ranges=False)])
def test_a_download_that_cannot_go_on_begins_anew(overlay: World, server: FileServer, page: Page) -> None:
    page.body, page.cuts = os.urandom(3 << 20), [1 << 20, 2 << 20]
    server.pages["/f"] = page
    found = resolve(patient(overlay), server.url("/f"))
    found.make("made")
    assert (overlay.snapshotter.layers("made")[0] / "f").read_bytes() == page.body


def test_a_download_that_always_breaks_off_ends(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x" * 100, cuts=[50] * 100)
    with pytest.raises(RegistryError, match="broke off 4 times"):
        resolve(patient(overlay), server.url("/f"))
    assert list((overlay.settings.root / "content/ingest").iterdir()) == []


def test_a_busy_server_is_asked_again(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(status=503)
    with pytest.raises(RegistryError, match="invalid response status 503"):
        resolve(patient(overlay), server.url("/f"))
    assert server.statuses() == [503] * 4


def test_what_is_not_there(overlay: World, server: FileServer) -> None:
    with pytest.raises(RegistryError, match=r"/no: 127\.0\.0\.1:\d+: invalid response status 404 \(Not Found\)$"):
        resolve(overlay, server.url("/no"))
    with pytest.raises(RegistryError, match=r"nothing listens at 127\.0\.0\.1:1$") as caught:
        resolve(overlay, "http://127.0.0.1:1/f")
    assert caught.value.hint == "check the URL, or fetch the file yourself and COPY it"


def test_the_compression_of_the_way_is_taken_off(fetch: Fetch, server: FileServer) -> None:
    server.pages["/f"] = Page(gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"})
    server.pages["/f.gz"] = Page(gzip.compress(b"hello", mtime=0))
    assert fetch(server.url("/f")).read_bytes() == b"hello"
    assert fetch(server.url("/f.gz")).read_bytes() == gzip.compress(b"hello", mtime=0)


def test_a_proxy_is_asked_with_the_whole_url(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(b"by proxy")
    world = patient(overlay, proxies=Proxies(http=f"http://me:pw@{server.address}"))
    resolve(world, "http://example.invalid/f")
    assert server.seen[0].path == "http://example.invalid/f"
    assert server.seen[0].headers["host"] == "example.invalid"
    assert server.seen[0].headers["proxy-authorization"] == "Basic bWU6cHc="


def test_headers_of_the_definition(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x")
    resolve(overlay, server.url("/f"), **{"header.accept": "text/x", "header.cookie": "no"})
    assert server.seen[0].headers["accept"] == "text/x"
    assert "cookie" not in server.seen[0].headers


@pytest.mark.parametrize(
    ("attrs", "message"),
    [({"perm": "rw"}, "'rw' is not a number"), ({"sig.signature": "x"}, "requires both pubkey and signature")],
)
def test_attributes_that_cannot_be_meant(overlay: World, attrs: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(overlay, "http://127.0.0.1:1/f", **attrs)


def test_a_file_that_changes_between_question_and_answer(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(b"x", etag='"1"')
    found = resolve(overlay, server.url("/f"))
    overlay.store.delete(next(digest for digest, _ in overlay.store.walk()))
    server.pages["/f"] = Page(b"y", etag='"2"')
    with pytest.raises(KnarrError, match="changed while it was fetched"):
        found.make("made")


def test_a_private_ca_is_trusted_where_registries_have_it(overlay: World, tmp_path: Path, server: FileServer) -> None:
    secure(server.server, tmp_path / "certs.d")
    server.pages["/f"] = Page(b"x")
    url = f"https://{server.address}/f"
    with pytest.raises(RegistryError, match=r"which is not trusted; looked in"):
        resolve(patient(overlay), url)
    resolve(patient(overlay, hosts_dirs=(str(tmp_path / "certs.d"),)), url)
    assert server.statuses() == [200]


def test_cancelling_ends_a_download_that_hangs(overlay: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Timer(0.2, overlay.scope.cancel).start()
        with pytest.raises(Cancelled):
            resolve(overlay, f"http://127.0.0.1:{silent.getsockname()[1]}/f")


def test_all_of_a_build_sees_one_version_of_a_file(overlay: World, server: FileServer) -> None:
    server.pages["/f"] = Page(b"one")
    op = SourceOp(server.url("/f"))
    first = source_http.resolve(overlay, op, "v").key
    server.pages["/f"] = Page(b"two")
    assert source_http.resolve(overlay, op, "v").key == first
    assert source_http.resolve(replace(overlay, answers={}), op, "v").key != first
