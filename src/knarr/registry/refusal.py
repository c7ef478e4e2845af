"""No, in the words of the specification: a status, an error code, and what a person can do about it.

Spec: distribution-spec v1.1, "Error Codes".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class Refusal(Exception):
    """A request that is answered with an error. `code` is one of the specification's."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        detail: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The JSON document of errors."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        return json.dumps({"errors": [error]}).encode()


def blob_unknown(digest: str) -> Refusal:
    return Refusal(404, "BLOB_UNKNOWN", "the blob is not in this repository", detail={"digest": digest})


def manifest_unknown(reference: str) -> Refusal:
    return Refusal(404, "MANIFEST_UNKNOWN", "the manifest is not in this repository", detail={"reference": reference})


def digest_invalid(message: str, **detail: str) -> Refusal:
    return Refusal(400, "DIGEST_INVALID", message, detail=detail or None)


def upload_unknown() -> Refusal:
    return Refusal(404, "BLOB_UPLOAD_UNKNOWN", "no such upload is open: it was finished, cancelled, or idle too long")


def name_unknown(repository: str) -> Refusal:
    return Refusal(404, "NAME_UNKNOWN", "the repository is not known to this registry", detail={"name": repository})


def not_allowed(method: str, *allowed: str) -> Refusal:
    headers = {"Allow": ", ".join(allowed)}
    return Refusal(405, "UNSUPPORTED", f"{method} is not possible here", headers=headers)
