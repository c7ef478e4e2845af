"""Servers on the loopback that hold files and repositories, and misbehave when told to."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

OLD = 1577836800  # 2020-01-01


@dataclass
class Page:
    """What a path answers."""

    body: bytes = b""
    status: int = 200
    etag: str = ""
    modified: int | None = None  # seconds since 1970
    headers: Mapping[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)  # the next answers end after so many bytes
    ranges: bool = True
    login: str = ""  # the Authorization that is wanted


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    status: int


class FileServer:
    """`pages` by path; every request is noted in `seen`."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.seen: list[Seen] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def statuses(self) -> list[int]:
        """Of the answers so far."""
        return [seen.status for seen in self.seen]


def _handler(owner: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            # A proxy is asked with the whole URL.
            path = urlsplit(self.path).path
            page = owner.pages.get(path, Page(status=404, body=b"no such page"))
            status, start = self._decide(page)
            body = b"" if status == 304 else page.body[start:]
            owner.seen.append(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, status))
            self.send_response(status)
            for name, value in {**_validators(page), **page.headers}.items():
                self.send_header(name, value)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: page.cuts.pop(0)] if page.cuts and body else body)
            self.close_connection = True

        def _decide(self, page: Page) -> tuple[int, int]:
            asked = self.headers
            if page.login and asked.get("Authorization") != page.login:
                return 401, 0
            if page.etag and asked.get("If-None-Match") == page.etag:
                return 304, 0
            since = asked.get("If-Modified-Since")
            if page.modified is not None and since == formatdate(page.modified, usegmt=True):
                return 304, 0
            begin = asked.get("Range", "").removeprefix("bytes=").rstrip("-")
            if begin and page.ranges and asked.get("If-Range") in _validators(page).values():
                return 206, int(begin)
            return page.status, 0

    return Handler


def _validators(page: Page) -> dict[str, str]:
    found = {"ETag": page.etag} if page.etag else {}
    if page.modified is not None:
        found["Last-Modified"] = formatdate(page.modified, usegmt=True)
    return found


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def secure(server: ThreadingHTTPServer, hosts_dir: Path) -> None:
    """Let `server` speak TLS, with a CA of its own that `hosts_dir` says is to be trusted."""
    host = f"127.0.0.1:{server.server_address[1]}"
    place = hosts_dir / host
    place.mkdir(parents=True)
    key, certificate = place / "server.pem", place / "ca.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a test's"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)


@contextmanager
def file_server() -> Iterator[FileServer]:
    owner = FileServer()
    with serving(owner.server):
        yield owner


class GitServer:
    """Bare repositories below `root`, by smart HTTP through `git http-backend`; `login` may be wanted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.login = ""
        self.requests = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _git_handler(self))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def url(self, name: str) -> str:
        return f"http://{self.address}/{name}.git"

    def publish(self, work: Path, name: str) -> str:
        """Push all of a working repository into `name`, made if need be; returns its URL."""
        bare = self.root / f"{name}.git"
        if not bare.exists():
            git("init", "-q", "--bare", "-b", "main", str(bare))
            git("config", "http.receivepack", "false", at=bare)
        git("push", "-q", "--force", str(bare), "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", at=work)
        return self.url(name)


def _git_handler(owner: GitServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            owner.requests += 1
            if owner.login and self.headers.get("Authorization") != owner.login:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else self._chunks()
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(owner.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": parts.path,
                "QUERY_STRING": parts.query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_ADDR": "127.0.0.1",
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _chunks(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return b""
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

    return Handler


@contextmanager
def git_server(root: Path) -> Iterator[GitServer]:
    owner = GitServer(root)
    with serving(owner.server):
        yield owner


def git(*argv: str, at: Path | None = None) -> str:
    """Run git as its author "test", apart from this machine's configuration."""
    who = {f"GIT_{role}_{what}": "test@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {"GIT_AUTHOR_DATE": f"{OLD} +0000", "GIT_COMMITTER_DATE": f"{OLD} +0000"}
    alone = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(["git", *argv], cwd=at, env={**who, **when, **alone}, capture_output=True, text=True)
    assert done.returncode == 0, f"git {' '.join(argv)}: {done.stderr}"
    return done.stdout.strip()


class Work:
    """A working repository, whose commits are published at once."""

    def __init__(self, root: Path, server: GitServer, name: str) -> None:
        self.root, self.server, self.name = root, server, name
        root.mkdir(parents=True)
        git("init", "-q", "-b", "main", at=root)

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def commit(self, files: Mapping[str, str]) -> str:
        """Write `files`, commit and publish them; returns the commit's id."""
        for path, text in files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        git("add", "-A", at=self.root)
        git("commit", "-q", "--allow-empty", "-m", "a change", at=self.root)
        self.publish()
        return git("rev-parse", "HEAD", at=self.root)

    def git(self, *argv: str) -> str:
        return git(*argv, at=self.root)

    def publish(self) -> None:
        self.server.publish(self.root, self.name)
