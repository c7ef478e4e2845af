"""A registry that misbehaves on purpose: threads, real sockets, everything in memory.

It follows distribution-spec v1.1 until told otherwise with `fail`: answer 500 or
429 a few times, hang, cut an answer or a request short, lie about a digest. It can
want tokens (its own token server is at /token) and be asked over TLS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

_ROUTE = re.compile(r"/v2/(?P<repo>.+?)/(?P<kind>blobs/uploads|blobs|manifests|tags|referrers)/(?P<name>[^/]*)$")
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of `method` whose path contains `part`."""

    method: str
    part: str
    times: int = 1
    skip: int = 0  # matching requests that pass before
    status: int = 0  # answer this
    headers: Mapping[str, str] = field(default_factory=dict)  # with these, or in place of what a good answer says
    body: bytes = b""
    hang_s: float = 0.0  # say nothing for so long
    cut_after: int = -1  # end the connection after so many bytes of the answer's body
    stall_s: float = 0.0  # before the cut, say nothing for so long
    swallow: int = -1  # end the connection after so many bytes of the request's body; an upload keeps them


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


class FakeRegistry:
    """Use as `with FakeRegistry(…) as registry`; `registry.host` is what references name."""

    def __init__(
        self,
        *,
        tls: tuple[Path, Path] | None = None,
        client_ca: Path | None = None,
        tokens: bool = False,
        login: tuple[str, str] | None = None,
        identity_token: str = "",
        token_life_s: int = 300,
        post_tokens: bool = True,
        mounts: bool = True,
        referrers: bool = True,
        ranges: bool = True,
        chunk_min: int = 0,
        body_limit: int = 0,
        strict: frozenset[str] = frozenset(),
        late_s: float = 0.0,
    ) -> None:
        """`strict` are kinds of manifests that are refused: see `_refusal`; others see one only after `late_s`."""
        self.strict, self.late_s = strict, late_s
        self.shown_at: dict[tuple[str, str], float] = {}
        self.tokens, self.login, self.identity_token = tokens, login, identity_token
        self.token_life_s, self.post_tokens = token_life_s, post_tokens
        self.mounts, self.referrers, self.ranges = mounts, referrers, ranges
        self.chunk_min, self.body_limit = chunk_min, body_limit
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.uploads: dict[str, bytearray] = {}
        self.granted: dict[str, set[str]] = {}  # token → repository:name:action
        self.seen: list[Seen] = []
        self.connections = 0
        self._begun = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            if client_ca:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(client_ca)
            self._server.context = context
            self.scheme = "https"
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.drop_connections()
        self._server.server_close()
        self._thread.join()

    def fail(self, method: str, part: str, **how: Any) -> None:
        with self._lock:
            self._faults.append(Fault(method, part, **how))

    def forgive(self) -> None:
        """Nothing goes wrong any more; what hangs is cut."""
        with self._lock:
            self._faults.clear()
        self._stop.set()
        self._stop = threading.Event()

    def add_blob(self, repository: str, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[repository, digest] = data
        return digest

    def add_manifest(self, repository: str, tag: str, raw: bytes, media_type: str) -> str:
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        self.manifests[repository, digest] = (media_type, raw)
        self.tags[repository, tag] = digest
        return digest

    def requests(self, method: str, part: str = "") -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and part in seen.path]

    def expire_tokens(self) -> None:
        self.granted.clear()

    def drop_connections(self) -> None:
        """Close every connection, as a load balancer does with idle ones."""
        self._server.drop_connections()

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.method == method and fault.part in path and fault.times > 0:
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def fresh_key(self) -> str:
        """A name for an upload that no other has."""
        with self._lock:
            self._begun += 1
            return f"u{self._begun}"

    def hang(self, seconds: float) -> None:
        self._stop.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    context: ssl.SSLContext | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[Any] = set()

    def get_request(self) -> tuple[Any, Any]:
        sock, address = super().get_request()
        self._open.add(sock)
        return sock, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context is not None:  # the handshake belongs to the connection's own thread
            try:
                request = self.context.wrap_socket(request, server_side=True)
            except (ssl.SSLError, OSError):
                return
            self._open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self._open.discard(request)
            request.close()

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        import socket

        for sock in list(self._open):
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # broken connections are what this server is for


def _refusal(registry: FakeRegistry, repository: str, document: dict[str, Any]) -> tuple[int, str] | None:
    """Why a manifest is not taken, as registries of the field have it."""

    def is_shown(digest: str) -> bool:
        return registry.shown_at.get((repository, digest), 0.0) <= time.monotonic() and (
            (repository, digest) in registry.manifests
        )

    entries = document.get("manifests", [])
    subject = document.get("subject", {})
    if "unknown" in registry.strict and any(e.get("platform", {}).get("os") == "unknown" for e in entries):
        return 400, "MANIFEST_INVALID"
    if "artifacts" in registry.strict and document.get("artifactType"):
        return 415, "UNSUPPORTED"
    if "subjects" in registry.strict and subject:
        return 400, "MANIFEST_INVALID"
    if "unseen" in registry.strict and subject and not is_shown(subject["digest"]):
        return 404, "MANIFEST_UNKNOWN"
    if "statements" in registry.strict and "in-toto" in json.dumps(document):
        return 415, "UNSUPPORTED"
    if (registry.strict or registry.late_s) and not all(is_shown(entry["digest"]) for entry in entries):
        return 404, "MANIFEST_BLOB_UNKNOWN"
    return None


def _handler(registry: FakeRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.registry = registry
    return Handler


class _Cut(Exception):
    """The connection is to end here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    registry: FakeRegistry
    _fault: Fault | None = None

    def setup(self) -> None:
        super().setup()
        self.registry.connections += 1

    def log_message(self, format: str, *args: Any) -> None:
        return

    def _serve(self) -> None:
        self.parts = urlsplit(self.path)
        self.query = parse_qs(self.parts.query, keep_blank_values=True)
        fields = {name.lower(): value for name, value in self.headers.items()}
        self.registry.seen.append(Seen(self.command, self.parts.path, self.query, fields))
        self._fault = self.registry.fault(self.command, self.parts.path)
        try:
            self._misbehave()
        except _Cut:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _misbehave(self) -> None:
        fault = self._fault
        length = int(self.headers.get("Content-Length") or 0)
        if fault is not None and fault.hang_s:
            self.registry.hang(fault.hang_s)
            raise _Cut
        if fault is not None and fault.swallow >= 0:
            self._keep_part(self.rfile.read(min(fault.swallow, length)))
            raise _Cut
        limit = self.registry.body_limit
        if limit and length > limit:
            self.close_connection = True
            return self._answer(413, b"", {})
        body = self.rfile.read(length)
        if fault is not None and fault.status:
            return self._answer(fault.status, fault.body, {})
        return self._route(body)

    def _keep_part(self, data: bytes) -> None:
        upload = self.registry.uploads.get(self.parts.path.rpartition("/")[2])
        if upload is not None:
            upload += data

    def _route(self, body: bytes) -> None:
        path = self.parts.path
        if path == "/token":
            return self._token(body)
        match = _ROUTE.match(path)
        repository = match["repo"] if match else ""
        if not self._may(repository):
            return None
        if path == "/v2/":
            return self._answer(200, b"{}", {})
        if match is None:
            return self._error(404, "NOT_FOUND")
        routes = {"blobs/uploads": self._upload, "blobs": self._blob, "manifests": self._manifest}
        more = {"tags": self._tags, "referrers": self._referrers}
        return {**routes, **more}[match["kind"]](repository, match["name"], body)

    def _may(self, repository: str) -> bool:
        registry = self.registry
        given = self.headers.get("Authorization", "")
        if registry.tokens:
            action = "pull" if self.command in ("GET", "HEAD") and "uploads" not in self.parts.path else "push"
            action = "delete" if self.command == "DELETE" and "uploads" not in self.parts.path else action
            right = f"repository:{repository}:{action}"
            rights = registry.granted.get(given.removeprefix("Bearer "))
            if rights is not None and (right in rights or not repository):
                return True
            scope = f',scope="{right}"' if repository else ""
            challenge = f'Bearer realm="{registry.url}/token",service="fake, with a comma"{scope}'
        elif registry.login:
            if given == _basic(registry.login):
                return True
            challenge = 'Basic realm="fake"'
        else:
            return True
        self._error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
        return False

    def _token(self, body: bytes) -> None:
        registry = self.registry
        if self.command == "POST":
            form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
            if not registry.post_tokens:
                return self._answer(405, b"", {})
            good = form.get("refresh_token") == registry.identity_token and bool(registry.identity_token)
            good = good or (form.get("username", ""), form.get("password", "")) == registry.login
            scopes = form.get("scope", "").split()
        else:
            given = self.headers.get("Authorization", "")
            good = registry.login is None or given == _basic(registry.login)
            scopes = self.query.get("scope", [])
        if not good:
            return self._answer(401, b'{"details":"incorrect username or password"}', {})
        token = f"token-{len(registry.seen)}-{time.monotonic_ns()}"
        rights = set()
        for scope in scopes:
            name, _, actions = scope.rpartition(":")
            rights.update(f"{name}:{action}" for action in actions.split(","))
        registry.granted[token] = rights
        return self._json(200, {"token": token, "expires_in": registry.token_life_s})

    def _blob(self, repository: str, digest: str, _: bytes) -> None:
        data = self.registry.blobs.get((repository, digest))
        if data is None:
            return self._error(404, "BLOB_UNKNOWN")
        headers = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.registry.ranges:
            first = int(asked[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            return self._answer(206, data[first:], headers)
        return self._answer(200, data, headers)

    def _manifest(self, repository: str, name: str, body: bytes) -> None:
        registry = self.registry
        if self.command == "PUT":
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            refused = _refusal(registry, repository, json.loads(body))
            if refused:
                return self._error(*refused)
            registry.shown_at.setdefault((repository, digest), time.monotonic() + registry.late_s)
            if ":" not in name:
                registry.tags[repository, name] = digest
            registry.manifests[repository, digest] = (self.headers.get("Content-Type", ""), body)
            headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{repository}/manifests/{digest}"}
            subject = json.loads(body).get("subject")
            if subject and registry.referrers:
                headers["OCI-Subject"] = subject["digest"]
            return self._answer(201, b"", headers)
        digest = name if ":" in name else registry.tags.get((repository, name), "")
        found = registry.manifests.get((repository, digest))
        if found is None:
            return self._error(404, "MANIFEST_UNKNOWN")
        if self.command == "DELETE":
            if ":" in name:
                del registry.manifests[repository, digest]
            else:
                del registry.tags[repository, name]
            return self._answer(202, b"", {})
        return self._answer(200, found[1], {"Docker-Content-Digest": digest, "Content-Type": found[0]})

    def _upload(self, repository: str, name: str, body: bytes) -> None:
        registry = self.registry
        place = f"/v2/{repository}/blobs/uploads/{name}"
        if self.command == "POST":
            digest = self.query.get("mount", [""])[0]
            data = registry.blobs.get((self.query.get("from", [""])[0], digest))
            if data is not None and registry.mounts:
                registry.blobs[repository, digest] = data
                return self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{digest}"})
            key = registry.fresh_key()
            registry.uploads[key] = bytearray()
            headers = {"Location": f"/v2/{repository}/blobs/uploads/{key}?state=secret", "Range": "0-0"}
            if registry.chunk_min:
                headers["OCI-Chunk-Min-Length"] = str(registry.chunk_min)
            return self._answer(202, b"", headers)
        upload = registry.uploads.get(name)
        if upload is None or self.query.get("state") != ["secret"]:
            return self._error(404, "BLOB_UPLOAD_UNKNOWN")
        here = {"Location": place + "?state=secret", "Range": f"0-{max(0, len(upload) - 1)}"}
        if self.command == "GET":
            return self._answer(204, b"", here)
        if self.command == "DELETE":
            del registry.uploads[name]
            return self._answer(204, b"", {})
        if self.command == "PATCH":
            first = int(self.headers.get("Content-Range", "0-").partition("-")[0])
            if first != len(upload):
                return self._answer(416, b"", here)
            upload += body
            return self._answer(202, b"", {**here, "Range": f"0-{max(0, len(upload) - 1)}"})
        return self._close_upload(repository, name, upload + body)

    def _close_upload(self, repository: str, name: str, data: bytes) -> None:
        digest = self.query["digest"][0]
        del self.registry.uploads[name]
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            return self._error(400, "DIGEST_INVALID")
        self.registry.blobs[repository, digest] = bytes(data)
        return self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{digest}"})

    def _tags(self, repository: str, _: str, __: bytes) -> None:
        names = sorted(tag for repo, tag in self.registry.tags if repo == repository)
        if not names:
            return self._error(404, "NAME_UNKNOWN")
        last, n = self.query.get("last", [""])[0], int(self.query["n"][0])
        rest = [name for name in names if name > last]
        headers = {}
        if len(rest) > n:
            headers["Link"] = f'</v2/{repository}/tags/list?n={n}&last={rest[n - 1]}>; rel="next"'
        return self._json(200, {"name": repository, "tags": rest[:n]}, headers)

    def _referrers(self, repository: str, digest: str, _: bytes) -> None:
        if not self.registry.referrers:
            return self._error(404, "NOT_FOUND")
        found = []
        for (repo, name), (kind, raw) in self.registry.manifests.items():
            document = json.loads(raw)
            if repo == repository and (document.get("subject") or {}).get("digest") == digest:
                artifact = document.get("artifactType") or document["config"]["mediaType"]
                entry = {"mediaType": kind, "digest": name, "size": len(raw), "artifactType": artifact}
                found.append(entry)
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        return self._json(200, body, {"Content-Type": INDEX})

    def _json(self, status: int, document: object, headers: Mapping[str, str] | None = None) -> None:
        self._answer(status, json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        body = {"errors": [{"code": code, "message": code.lower().replace("_", " "), "detail": None}]}
        self._json(status, body, headers)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        fault = self._fault
        said = {"Content-Length": str(len(body)), **headers, **(fault.headers if fault else {})}
        if status == 204:
            del said["Content-Length"]
        self.send_response(status)
        for name, value in said.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            if fault is not None and fault.cut_after >= 0:
                self.wfile.write(body[: fault.cut_after])
                self.registry.hang(fault.stall_s)
                raise _Cut
            self.wfile.write(body)


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()
