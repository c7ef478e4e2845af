"""The source op `http://…` and `https://…`: one file from a URL.

What a URL gives is known by its content, its name and its time. A checksum in
the definition answers that without asking anybody; otherwise the server is asked
each time, with the ETag (or Last-Modified) of what came before, so that a file
that did not change is not sent again. What it said is kept below `http/` in the
state directory; the bytes are in the content store.

Spec: BuildKit source/http (the key; mode 0600 and owner 0:0 unless said; mtime from Last-Modified, else 1970).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cache.flight import flight
from knarr.cache.record import RecordId
from knarr.errors import DigestMismatch, KnarrError, RegistryError, UsageError
from knarr.llb.ops import SourceOp
from knarr.ops import onefile
from knarr.ops.fetched import Fetched, Reach
from knarr.ops.world import World
from knarr.progress import Status
from knarr.record import record
from knarr.session.session import Uploader
from knarr.spec.digest import Digest
from knarr.streams import CHUNK, Readable

if TYPE_CHECKING:
    from knarr.remote.fetchurl import Asked
    from knarr.remote.transport import Transport
    from knarr.remote.wire import Headers

_HEADERS = ("accept", "user-agent")  # what a definition may set; BuildKit's list
_UNNAMED = "download"
_UPLOADED = "http://buildkit-session/"  # no server: the caller holds it ready


@record
class HttpSource:
    """A source op, read."""

    url: str
    look: onefile.Look = onefile.Look()
    checksum: Digest | None = None
    secret: str = ""  # id of the secret that is the Authorization header
    signature: str = ""  # of OpenPGP, armored; and the keys of which one has made it
    keys: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@record
class Known:
    """What a URL gave when it was last asked."""

    digest: Digest
    size: int
    etag: str = ""
    modified: str = ""  # Last-Modified
    settled: bool = False  # `modified` alone tells versions apart
    disposition: str = ""  # Content-Disposition, which may name the file


def resolve(world: World, op: SourceOp, vertex: str) -> Fetched:
    """What the file is now; without a checksum it is fetched, unless it is here already.

    Raises:
        RegistryError: the server cannot be reached or says no.
        UsageError: an attribute cannot be meant.
    """
    source = parse(op)
    if source.checksum is not None and not source.signature:
        name = file_name(source, "")
        make = partial(_make, world, source, vertex, name, None)
        shared = _shared_key(op, source, name, source.checksum, "")
        return Fetched(_key(source, name, source.checksum, ""), make, True, shared, str(source.checksum))
    known = ask(world, source, vertex, anew=False)
    check_signature(world, source, known)
    name = file_name(source, known.disposition)
    what = (name, known.digest, known.modified)
    make = partial(_make, world, source, vertex, name, known)
    return Fetched(_key(source, *what), make, shared_key=_shared_key(op, source, *what), pin=str(known.digest))


def check_signature(world: Reach, source: HttpSource, known: Known) -> None:
    """Does nothing where the definition names no signature.

    Raises:
        KnarrError: nobody of those whose keys it names has signed the file.
        DigestMismatch: it is not the file of the checksum, either.
    """
    if not source.signature:
        return
    from knarr.ops import pgp

    if source.checksum not in (None, known.digest):
        raise DigestMismatch(f"{_shown(source.url)}: {known.digest}, but {source.checksum} was expected")
    try:
        pgp.verify(world.store.path(known.digest), source.signature.encode(), source.keys.encode())
    except KnarrError as error:
        raise error.with_context(url=_shown(source.url)) from None


def _shared_key(op: SourceOp, source: HttpSource, name: str, digest: Digest, modified: str) -> str:
    from knarr.solver.sharedkeys import http_key

    look = source.look
    return http_key(name, (look.perm, look.uid, look.gid), digest, modified, source.secret, dict(source.headers))


def parse(op: SourceOp) -> HttpSource:
    """The op's attributes as values.

    Raises:
        UsageError: one of them cannot be meant.
    """
    attrs = op.attrs
    signature, keys = attrs.get("http.sig.signature", ""), attrs.get("http.sig.pubkey", "")
    if bool(signature) != bool(keys):
        raise UsageError(f"{op.identifier}: http signature verification requires both pubkey and signature")
    custom = ((name.removeprefix("http.header."), attrs[name]) for name in sorted(attrs) if "http.header." in name)
    return HttpSource(
        op.identifier,
        onefile.look_of(attrs, op.identifier),
        Digest.parse(attrs["http.checksum"]) if attrs.get("http.checksum") else None,
        attrs.get("http.authheadersecret", ""),
        signature,
        keys,
        tuple((name, value) for name, value in custom if name.lower() in _HEADERS),
    )


def file_name(source: HttpSource, disposition: str) -> str:
    """What the file is called: as the definition says, as the server says, or after the URL's path."""
    from urllib.parse import unquote, urlsplit

    offered = source.look.filename or _named_by(disposition) or unquote(urlsplit(source.url).path)
    return onefile.safe_name(offered, _UNNAMED)


def _named_by(disposition: str) -> str:
    if not disposition:
        return ""
    from email.message import Message

    message = Message()
    message["content-disposition"] = disposition
    name = message.get_filename("")
    return "" if name.endswith("/") else name


def _key(source: HttpSource, name: str, digest: Digest, modified: str) -> str:
    look = source.look
    parts = [name, look.mode, look.uid, look.gid, digest, modified, source.secret, source.headers]
    return "http:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# Asking


def ask(world: Reach, source: HttpSource, vertex: str, *, anew: bool) -> Known:
    """What the URL gives, its content in the store unless the server said that it did not change.

    One at a time per URL: whoever comes second finds what the first one has noted.
    """
    if source.url.startswith(_UPLOADED):
        return _uploaded(world, source, vertex)
    note = _note(world, source)
    with flight(world.settings.root / "flights", f"http-{note.name}", scope=world.scope):
        told: Known | None = None if anew else world.answers.get(note.name)
        if told is not None:
            return told  # all of a build sees one version
        before = None if anew else _recall(note)
        known = _fetch(world, source, vertex, before)
        if known is not before:
            _remember(note, source.url, known)
        world.answers[note.name] = known
    return known


def _note(world: Reach, source: HttpSource) -> Path:
    id = hashlib.sha256(json.dumps([source.url, source.headers, source.secret]).encode()).hexdigest()
    return world.settings.root / "http" / id


def _recall(note: Path) -> Known | None:
    try:
        with open(note, encoding="utf-8") as file:
            said = json.load(file)
        return Known(
            Digest.parse(said["digest"]),
            said["size"],
            said["etag"],
            said["modified"],
            said["settled"],
            said["disposition"],
        )
    except (OSError, ValueError, KeyError, TypeError, KnarrError):
        return None  # nothing known, or nothing that could be read


def _remember(note: Path, url: str, known: Known) -> None:
    os.makedirs(note.parent, mode=0o700, exist_ok=True)
    said = {
        "url": url.partition("?")[0],  # for people; a query may be a secret
        "digest": known.digest,
        "size": known.size,
        "etag": known.etag,
        "modified": known.modified,
        "settled": known.settled,
        "disposition": known.disposition,
    }
    fresh = f"{note}.{os.getpid()}"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(said, file)
    os.replace(fresh, note)


def _fetch(world: Reach, source: HttpSource, vertex: str, before: Known | None) -> Known:
    from knarr.remote.fetchurl import Restart

    transport = world.registry().transport.within(world.scope)
    asked = _asked(world, source)
    for _ in range(transport.settings.retry.attempts):
        try:
            return _fetch_once(world, source, vertex, asked, before)
        except Restart:
            continue
        except RegistryError as error:
            if error.status in (401, 403):
                error.with_context(hint=_login_hint(source.url))
            raise
    raise RegistryError(f"{asked.what}: broke off {transport.settings.retry.attempts} times", temporary=True)


def _fetch_once(world: Reach, source: HttpSource, vertex: str, asked: Asked, before: Known | None) -> Known:
    from knarr.remote.fetchurl import Download, is_settled

    transport = world.registry().transport.within(world.scope)
    if before is not None and _is_unchanged(transport, asked, before):
        return before
    with Download(transport, asked, _condition(before)) as download, world.scope.on_cancel(download.abort):
        headers = download.headers
        etag = headers.get("etag")
        if before is not None and (download.status == 304 or (etag and etag == before.etag)):
            return before
        if download.status == 304:
            raise RegistryError(f"{asked.what}: the server says that it did not change, and was not asked that")
        stream = _decoded(download, headers)
        digest, size = _take_in(world, source, vertex, stream, max(download.size, 0))
        modified = headers.get("last-modified")
        settled = is_settled(modified, headers.get("date"))
        return Known(digest, size, etag, modified, settled, headers.get("content-disposition"))


def _is_unchanged(transport: Transport, asked: Asked, before: Known) -> bool:
    """Whether the server says so when it is asked for no content (HEAD), which not all of them are used to."""
    from knarr.remote.fetchurl import open_url

    condition = _condition(before)
    if not condition:
        return False
    try:
        _, answer = open_url(transport, asked, condition, method="HEAD")
    except RegistryError:
        return False  # that of GET counts
    answer.close()
    return answer.status == 304 or (bool(before.etag) and answer.headers.get("etag") == before.etag)


def _condition(before: Known | None) -> tuple[tuple[str, str], ...]:
    if before is None:
        return ()
    if before.etag:
        return (("If-None-Match", before.etag),)
    return (("If-Modified-Since", before.modified),) if before.settled else ()


def _uploaded(world: Reach, source: HttpSource, vertex: str) -> Known:
    if not isinstance(world.session, Uploader):
        raise UsageError(f"{source.url}: nobody holds anything ready there")
    with world.session.upload("buildkit-session", "/" + source.url.removeprefix(_UPLOADED)) as stream:
        return Known(*_take_in(world, source, vertex, stream, 0))


def _take_in(world: Reach, source: HttpSource, vertex: str, stream: Readable, total: int) -> tuple[Digest, int]:
    """A stream into the content store, hashed on the way. `total` is its size, 0 when that is not known."""
    started = time.time_ns()
    what = f"downloading {file_name(source, '')}"

    def tell(size: int, *, done: bool = False) -> None:
        world.sink.send(Status(vertex, what, size, total, done, started, time.time_ns()))

    with world.store.ingest(algorithm=source.checksum.algorithm if source.checksum else "sha256") as blob:
        while data := stream.read(CHUNK):
            world.scope.check()
            blob.write(data)
            tell(blob.size)
        world.scope.check()
        if source.checksum not in (None, blob.digest):
            raise DigestMismatch(
                f"{_shown(source.url)}: the checksum is {blob.digest}, but {source.checksum} was expected",
                hint="if the new file is right, write its checksum; if not, somebody has changed it",
            )
        tell(blob.size, done=True)
        return blob.commit().digest, blob.size


def _decoded(stream: Readable, headers: Headers) -> Readable:
    """Without the compression that the server put on for the way."""
    if headers.get("content-encoding").lower() != "gzip":
        return stream
    from knarr.layer.decompress import open_compressed

    return open_compressed(stream)


def _asked(world: Reach, source: HttpSource) -> Asked:
    from knarr.remote.fetchurl import Asked, basic_login

    login = _secret_login(world, source) or basic_login(source.url)
    return Asked(source.url, _shown(source.url), (*source.headers, ("Accept-Encoding", "gzip")), login)


def _secret_login(world: Reach, source: HttpSource) -> str:
    """The Authorization header that the caller lends: the secret the definition names, else one of the host's."""
    if source.secret:
        secret = world.session.secret(source.secret)
        if secret is None:
            raise UsageError(
                f"{_shown(source.url)}: needs the secret {source.secret}", hint=f"--secret id={source.secret}"
            )
        return _line(secret.value)
    host = _host(source.url)
    header = world.session.secret(f"HTTP_AUTH_HEADER_{host}")
    token = world.session.secret(f"HTTP_AUTH_TOKEN_{host}")
    if token is not None:
        return "Bearer " + _line(token.value)
    return _line(header.value) if header is not None else ""


def _line(secret: bytes) -> str:
    return secret.decode("latin-1").strip("\r\n")


def _login_hint(url: str) -> str:
    return f"a login is lent as a secret: --secret id=HTTP_AUTH_TOKEN_{_host(url)},env=TOKEN"


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or ""


def _shown(url: str) -> str:
    """Without user, password and query, which may be secrets."""
    scheme, _, rest = url.partition("://")
    netloc, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{netloc.rpartition('@')[2]}{slash}{path}"


# Making


def _make(world: World, source: HttpSource, vertex: str, name: str, known: Known | None, record: RecordId) -> RecordId:
    """The tree of the file; `known` is what it was found to be, None when only its checksum is known."""
    found = known or _recall(_note(world, source))
    expected = known.digest if known else source.checksum
    if found is None or found.digest != expected or world.store.find(found.digest) is None:
        found = ask(world, source, vertex, anew=True)
    if found.digest != expected:
        raise KnarrError(f"{_shown(source.url)}: changed while it was fetched", hint="build again")
    from knarr.remote.fetchurl import seconds_of

    modified = seconds_of(found.modified) or 0
    return onefile.write(world, source.look, name, found.digest, found.size, modified, record)
