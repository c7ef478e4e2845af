"""The authority and the log of `authority` behind HTTP, as sigstore's clients ask them.

Spec: Fulcio's API v2 (`/api/v2/signingCert`), Rekor's v1 (`/api/v1/log/entries`).
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from .authority import Authority


def token(subject: str, issuer: str, seconds: int = 600) -> str:
    """An identity token that nobody signed: who gets it believes the services."""
    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": issuer, "sub": subject, "aud": "sigstore", "iat": now, "exp": now + seconds}
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


class _Handler(BaseHTTPRequestHandler):
    authority: Authority
    refuses = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refuses:
            self._answer(403, {"message": "who are you?"})
        elif self.path == "/api/v2/signingCert":
            self._answer(200, self._certificate(body))
        else:
            self._answer(201, self._entry(body["spec"]["proposedContent"]))

    def _certificate(self, body: dict[str, Any]) -> dict[str, Any]:
        shown = self.headers["Authorization"].removeprefix("Bearer ").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(shown + "=" * (-len(shown) % 4)))
        request = x509.load_pem_x509_csr(base64.b64decode(body["certificateSigningRequest"]))
        leaf = self.authority.leaf(request.public_key(), claims["sub"], claims["iss"])  # type: ignore[arg-type]  # ECDSA
        chain = [one.public_bytes(serialization.Encoding.PEM).decode() for one in (leaf, self.authority.root)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def _entry(self, proposed: dict[str, Any]) -> dict[str, Any]:
        envelope = json.loads(proposed["envelope"])
        statement, signature = (
            base64.b64decode(text) for text in (envelope["payload"], envelope["signatures"][0]["sig"])
        )
        pem = base64.b64decode(proposed["verifiers"][0])
        found = self.authority.entry(statement, signature, pem, datetime.now(UTC))
        proof = found["inclusionProof"]
        verification = {
            "signedEntryTimestamp": found["inclusionPromise"]["signedEntryTimestamp"],
            "inclusionProof": {
                "checkpoint": proof["checkpoint"]["envelope"],
                "hashes": [],
                "logIndex": 0,
                "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                "treeSize": 1,
            },
        }
        entry = {
            "body": found["canonicalizedBody"],
            "integratedTime": int(found["integratedTime"]),
            "logID": base64.b64decode(found["logId"]["keyId"]).hex(),
            "logIndex": 0,
            "verification": verification,
        }
        return {"a" * 64: entry}

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def served(authority: Authority, *, refuses: bool = False) -> Iterator[str]:
    """The services on a port of this machine; gives the trust configuration that names them."""
    handler = type("Handler", (_Handler,), {"authority": authority, "refuses": refuses})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield trust_config(authority, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def trust_config(authority: Authority, url: str) -> str:
    service = {"url": url, "majorApiVersion": 1, "validFor": {"start": "2026-01-01T00:00:00Z"}, "operator": "corp"}
    signing = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [service],
        "oidcUrls": [],
        "rekorTlogUrls": [service],
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaUrls": [],
        "tsaConfig": {"selector": "ANY"},
    }
    document = {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": json.loads(authority.trusted_root),
        "signingConfig": signing,
    }
    return json.dumps(document)
