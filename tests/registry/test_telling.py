"""What the server tells others: metrics, a log, webhooks."""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from knarr.registry.settings import ServerSettings
from knarr.registry.webhooks import Webhook

from .conftest import Start


class Receiver:
    """Takes webhooks; refuses the first `refusals`."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.refusals = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 200
                if outer.refusals:
                    outer.refusals -= 1
                    status = 503
                else:
                    outer.got.append((dict(self.headers), body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def wait(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 10
        while len(self.got) < count:
            assert time.monotonic() < deadline, self.got
            time.sleep(0.02)
        return [json.loads(body)["events"][0] for _, body in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    taking = Receiver()
    yield taking
    taking.close()


def test_pushes_and_deletions_are_told_in_order_signed_and_again_after_a_refusal(
    start: Start, receiver: Receiver
) -> None:
    hook = Webhook(receiver.url, secret="key", headers=(("X-Team", "a"),), repositories=("team/**",))
    client = start(ServerSettings(webhooks=(hook,))).client
    receiver.refusals = 1
    name = client.push_image("team/app", "v1", b"layer")
    client.push_image("other", "v1", b"layer")
    client("GET", "/v2/team/app/manifests/v1")
    client("DELETE", "/v2/team/app/manifests/v1")

    events = receiver.wait(4)
    assert [(event["action"], event["target"].get("tag")) for event in events] == [
        ("push", None),
        ("push", None),
        ("push", "v1"),
        ("delete", "v1"),
    ]
    assert events[2]["target"]["digest"] == name
    headers, body = receiver.got[0]
    assert headers["X-Knarr-Signature"] == "sha256=" + hmac.digest(b"key", body, "sha256").hex()
    assert headers["X-Team"] == "a"
    assert headers["User-Agent"] == "knarr"


def test_a_receiver_that_is_not_there_holds_nobody_up(start: Start) -> None:
    running = start(ServerSettings(webhooks=(Webhook("http://127.0.0.1:9/"),)))
    running.client.push_image("a", "v1", b"layer")
    assert running.client("GET", "/v2/a/manifests/v1").status == 200


def test_metrics_count_requests_and_what_there_is(start: Start) -> None:
    client = start(ServerSettings(metrics=True)).client
    client.push_image("a", "v1", b"layer")
    client("GET", "/v2/a/manifests/v1")
    client("GET", "/v2/a/manifests/v2")
    told = client("GET", "/metrics")
    assert told.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = told.body.decode().splitlines()
    for line in (
        'knarr_registry_requests_total{method="GET",endpoint="manifest",status="200"} 1',
        'knarr_registry_requests_total{method="GET",endpoint="manifest",status="404"} 1',
        'knarr_registry_events_total{action="push"} 3',
        'knarr_registry_request_seconds_count{endpoint="manifest"} 3',
        "knarr_registry_manifests 1",
        "knarr_registry_tags 1",
        "knarr_registry_uploads_open 0",
    ):
        assert line in lines


def test_there_are_no_metrics_unless_asked_for(start: Start) -> None:
    assert start().client("GET", "/metrics").status == 404


def test_each_request_is_a_line_of_json_without_secrets(start: Start) -> None:
    running = start()
    lines: list[str] = []
    running.registry._desk._log = lines.append
    running.client("GET", "/v2/", Authorization="Bearer secret", User_Agent="test")
    running.client("GET", "/nowhere")
    first, second = (json.loads(line) for line in lines)
    assert (first["method"], first["path"], first["status"], first["agent"]) == ("GET", "/v2/", 200, "test")
    assert second["status"] == 404
    assert "secret" not in "".join(lines)
