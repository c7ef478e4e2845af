"""A registry in this process, on a thread of its own, and a client that hides nothing."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from knarr.content.store import Store
from knarr.registry.server import Registry
from knarr.registry.settings import ServerSettings
from knarr.spec import mediatype

from .pki import Authority


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        return [error["code"] for error in self.json["errors"]]


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Client:
    """Requests to one server; `headers` go with all of them."""

    def __init__(self, port: int, **headers: str) -> None:
        self.port = port
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = self.connection()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, {**self.headers, **named})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def push_blob(self, repository: str, data: bytes) -> str:
        name = digest(data)
        pushed = self("POST", f"/v2/{repository}/blobs/uploads/?digest={name}", data)
        assert pushed.status == 201, pushed
        return name

    def push_image(self, repository: str, tag: str, layer: bytes, **more: Any) -> str:
        """A manifest with one layer under `tag` (or only by its digest, for ""); returns its digest."""
        raw = manifest(layer, **more)
        self.push_blob(repository, CONFIG)
        self.push_blob(repository, layer)
        pushed = self(
            "PUT", f"/v2/{repository}/manifests/{tag or digest(raw)}", raw, Content_Type=mediatype.OCI_MANIFEST
        )
        assert pushed.status == 201, pushed
        return digest(raw)


CONFIG = b'{"architecture":"amd64","os":"linux"}'


def described(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def manifest(*layers: bytes, config: bytes = CONFIG, **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": described(config, mediatype.OCI_CONFIG),
        "layers": [described(layer, mediatype.OCI_LAYER_GZIP) for layer in layers],
        **more,
    }
    return json.dumps(document).encode()


class Running:
    """A server on a thread. `stop` may be called twice."""

    def __init__(self, root: Path, settings: ServerSettings, client: Any = None) -> None:
        self.store = Store(root, durable=True)
        self.told: list[str] = []
        self.registry = Registry(self.store, settings, tell=self.told.append, client=client)
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._task = self._loop.create_task(self.registry.serve(ready.set))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert ready.wait(10), self.told
        self.client = Client(self.registry.port)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join()
            self.store.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers, by default on one store and on a free port."""
    started: list[Running] = []

    def starting(settings: ServerSettings | None = None, *, root: Path | None = None, client: Any = None) -> Running:
        from knarr.record import replace

        running = Running(root or tmp_path / "content", replace(settings or ServerSettings(), port=0), client)
        started.append(running)
        return running

    yield starting
    for running in started:
        running.stop()


@pytest.fixture
def client(start: Start) -> Client:
    return start().client


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")
