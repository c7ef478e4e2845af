"""What kubectl asks of a cluster before it applies anything: which kinds there are, and that nothing is there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

KINDS = {
    "/api/v1": {
        "namespaces": "Namespace",
        "configmaps": "ConfigMap",
        "secrets": "Secret",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "services": "Service",
        "pods": "Pod",
    },
    "/apis/apps/v1": {"statefulsets": "StatefulSet"},
    "/apis/batch/v1": {"jobs": "Job"},
    "/apis/networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """What kubectl asks of a cluster before it applies anything: which kinds there are, and that nothing is there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Discovery) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Discovery(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        body = self._document(path)
        data = json.dumps(body).encode()
        self.send_response(404 if body.get("code") == 404 else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _document(self, path: str) -> dict[str, Any]:
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(p) for p in KINDS if p != "/api/v1"]}
        if path in KINDS:
            resources = [
                {
                    "name": plural,
                    "singularName": kind.lower(),
                    "namespaced": kind != "Namespace",
                    "kind": kind,
                    "verbs": ["create", "get", "patch"],
                }
                for plural, kind in KINDS[path].items()
            ]
            version = path.removeprefix("/apis/").removeprefix("/api/")
            return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}

    def log_message(self, format: str, *words: object) -> None:
        return


def _group(path: str) -> dict[str, Any]:
    group, _, version = path.removeprefix("/apis/").rpartition("/")
    preferred = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [preferred], "preferredVersion": preferred}
