"""knarr's registry server against distribution: the same requests to each, in turn, in one run.

python bench/registries.py [--runs N] [--only knarr,distribution] [--current PATH] [--json FILE]

`distribution` is Debian's docker-registry; `--current` names the program `registry`
of a newer build, which is then measured as well.

The client is lean on purpose: sockets, threads and processes, `sendfile` for the
large blob. It sends what clients send (POST, PUT, PUT; GET, GET), checks every
status, and costs both servers the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Watcher

LARGE_BYTES = 1 << 30
IMAGES = 2000
PROCESSES, THREADS = 4, 4  # 16 clients
_CONFIG = b'{"architecture":"amd64","os":"linux"}'
_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Server:
    """A registry to measure. `command` is given its directory and port."""

    name: str
    command: Callable[[Path, int], list[str]]


def _knarr(place: Path, port: int) -> list[str]:
    return [
        "env",
        f"KNARR_ROOT={place}",
        sys.executable,
        "-m",
        "knarr",
        "registry",
        "serve",
        f"--listen=127.0.0.1:{port}",
    ]


def _distribution(place: Path, port: int, program: str = "docker-registry") -> list[str]:
    config = place / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {place}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    return [program, "serve", str(config)]


SERVERS = (Server("knarr", _knarr), Server("distribution", _distribution))


class Failed(Exception):
    """The server did not do what was asked of it."""


class Link:
    """One connection that speaks just enough HTTP."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "", *, expect: int
    ) -> tuple[dict[bytes, bytes], bytes]:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {_TYPE}\r\n"
        if kind:
            head += f"Content-Type: {kind}\r\n"
        if body or method in ("POST", "PUT"):
            head += f"Content-Length: {len(body)}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + body)
        return self.answer(expect)

    def send_file(self, path: str, file: Path) -> None:
        size = file.stat().st_size
        head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"
        self._socket.sendall(head.encode())
        with open(file, "rb") as source:
            self._socket.sendfile(source)

    def answer(self, expect: int) -> tuple[dict[bytes, bytes], bytes]:
        headers = self.header(expect)
        size = int(headers.get(b"content-length", b"0"))
        while len(self._rest) < size:
            self._rest += self._more()
        body, self._rest = self._rest[:size], self._rest[size:]
        return headers, body

    def header(self, expect: int) -> dict[bytes, bytes]:
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        if int(first.split()[1]) != expect:
            raise Failed(f"expected {expect}: {head.decode()}\n{self._rest[:500].decode(errors='replace')}")
        return {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}

    def drain(self, size: int) -> None:
        left = size - len(self._rest)
        self._rest = b""
        buffer = bytearray(1 << 20)
        while left:
            got = self._socket.recv_into(buffer, min(left, len(buffer)))
            if not got:
                raise Failed("the blob ended early")
            left -= got

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise Failed("the server closed the connection")
        return data


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def location(headers: dict[bytes, bytes]) -> str:
    text = headers[b"location"].decode()
    return "/" + text.split("/", 3)[3] if "://" in text else text


def push(link: Link, repository: str, data: bytes) -> None:
    headers, _ = link.ask("POST", f"/v2/{repository}/blobs/uploads/", expect=202)
    place = location(headers)
    link.ask("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest(data)}", data, expect=201)


def push_large(port: int, file: Path, name: str) -> None:
    link = Link(port)
    headers, _ = link.ask("POST", "/v2/large/blobs/uploads/", expect=202)
    place = location(headers)
    link.send_file(f"{place}{'&' if '?' in place else '?'}digest={name}", file)
    link.answer(201)


def pull_large(port: int, name: str) -> None:
    link = Link(port)
    link._socket.sendall(f"GET /v2/large/blobs/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    link.drain(int(link.header(200)[b"content-length"]))


def _image(number: int) -> tuple[bytes, bytes]:
    layer = f"{number} ".encode() * 200
    parts = [
        (_CONFIG, "application/vnd.oci.image.config.v1+json"),
        (layer, "application/vnd.oci.image.layer.v1.tar+gzip"),
    ]
    config, described = ({"mediaType": kind, "digest": digest(data), "size": len(data)} for data, kind in parts)
    return layer, json.dumps({"schemaVersion": 2, "mediaType": _TYPE, "config": config, "layers": [described]}).encode()


def push_small(port: int) -> None:
    push(Link(port), "small", _CONFIG)

    def one(link: Link, number: int) -> None:
        layer, manifest = _image(number)
        push(link, "small", layer)
        link.ask("PUT", f"/v2/small/manifests/v{number}", manifest, _TYPE, expect=201)

    _all_clients(port, one)


def pull_small(port: int) -> None:
    def one(link: Link, number: int) -> None:
        _, manifest = link.ask("GET", f"/v2/small/manifests/v{number}", expect=200)
        link.ask("GET", f"/v2/small/blobs/{json.loads(manifest)['layers'][0]['digest']}", expect=200)

    _all_clients(port, one)


def _all_clients(port: int, one: Callable[[Link, int], None]) -> None:
    """Every image, by 16 threads in four processes."""

    done: list[int] = []

    def work(first: int) -> None:
        link = Link(port)
        for number in range(first, IMAGES, PROCESSES * THREADS):
            one(link, number)
        done.append(first)

    children = []
    for process in range(PROCESSES):
        child = os.fork()
        if not child:
            status = 1
            try:
                threads = [threading.Thread(target=work, args=(process * THREADS + t,)) for t in range(THREADS)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                status = 0 if len(done) == THREADS else 1
            finally:
                os._exit(status)
        children.append(child)
    for child in children:
        if os.waitpid(child, 0)[1]:
            raise Failed("a client failed: what it said is above")


def measure(server: Server, work: Path, file: Path, name: str) -> dict[str, float]:
    """Seconds for each act on a fresh store, and the server's peak memory in MiB."""
    place = Path(tempfile.mkdtemp(prefix=server.name, dir=work))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(place / "log", "wb") as log:
        process = subprocess.Popen(server.command(place, port), stdout=log, stderr=log)
    watcher = Watcher([process.pid], every_s=0.25)
    try:
        _wait(port, process, place / "log")
        acts: dict[str, Callable[[], None]] = {
            "push 1 GiB": lambda: push_large(port, file, name),
            "pull 1 GiB": lambda: pull_large(port, name),
            "push 2,000 small images": lambda: push_small(port),
            "pull 2,000 small images": lambda: pull_small(port),
        }
        found = {act: _timed(call) for act, call in acts.items()}
    finally:
        peak = watcher.stop()
        process.terminate()
        process.wait()
        shutil.rmtree(place, ignore_errors=True)
    return {**found, "memory": peak}


def _timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(log.read_text()) from None
            time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description="Time knarr's registry server against distribution.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="knarr, distribution, current")
    parser.add_argument("--current", metavar="PATH", help="the program `registry` of a current distribution")
    parser.add_argument("--json", metavar="FILE", help="also write every sample here")
    options = parser.parse_args()
    servers = list(SERVERS)
    if options.current:
        servers.append(Server("current", lambda place, port: _distribution(place, port, options.current)))
    chosen = [server for server in servers if not options.only or server.name in options.only.split(",")]
    results: dict[str, list[dict[str, float]]] = {server.name: [] for server in chosen}
    with tempfile.TemporaryDirectory(prefix="knarr-bench-") as text:
        work = Path(text)
        file = work / "large"
        name = _make_large(file)
        for _ in range(options.runs):
            for server in chosen:
                results[server.name].append(measure(server, work, file, name))
    _print(results)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))
    return 0


def _make_large(file: Path) -> str:
    hashed = hashlib.sha256()
    block = os.urandom(1 << 20)
    with open(file, "wb") as out:
        for number in range(LARGE_BYTES >> 20):
            piece = number.to_bytes(8, "big") + block[8:]
            hashed.update(piece)
            out.write(piece)
    return "sha256:" + hashed.hexdigest()


def _print(results: dict[str, list[dict[str, float]]]) -> None:
    names = list(results)
    print(f"\n{os.cpu_count()} cores, medians of {len(results[names[0]])}.\n")
    others = [name for name in names if name != "knarr"] if "knarr" in names else []
    print("| | " + " | ".join([*names, *(f"knarr ÷ {other}" for other in others)]) + " |")
    print("|---" * (1 + len(names) + len(others)) + "|")
    for act in results[names[0]][0]:
        middle = {name: _median(results[name], act) for name in names}
        unit = "MiB" if act == "memory" else "s"
        cells = [f"{middle[name]:.2f} {unit}" for name in names]
        cells += [f"{middle['knarr'] / middle[other]:.2f}" for other in others]
        print(f"| {act} | " + " | ".join(cells) + " |")


def _median(samples: Sequence[dict[str, float]], act: str) -> float:
    return statistics.median(sample[act] for sample in samples)


if __name__ == "__main__":
    sys.exit(main())
