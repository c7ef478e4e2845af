"""Bearer tokens: what a caller proved to be and may do, signed by this server, for some minutes.

A token is a JWT (HS256). Its key lies in the store, so that tokens survive a
restart. `access` is what was granted; the rules are asked again with every
request, so that a right taken away is gone at once.

Spec: RFC 7519, RFC 7515; distribution's "Token Authentication Specification" and its JWT claims.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import time
from collections.abc import Iterable
from typing import Any

from knarr.record import record
from knarr.registry.rights import ACTIONS

_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
_SKEW_S = 5
_LONGEST = 64 << 10


@record
class Claim:
    """A token that was read: its subject, and the actions granted for each repository."""

    name: str
    access: dict[str, tuple[str, ...]]
    refresh: bool = False


class Tokens:
    """Makes and reads the tokens of one service."""

    def __init__(self, key: bytes, service: str, *, ttl_s: int = 300) -> None:
        self._key = key
        self.service = service
        self.ttl_s = ttl_s

    def issue(self, name: str, access: dict[str, tuple[str, ...]], now: float | None = None) -> str:
        """A token by which `name` may do what `access` says, for `ttl_s` seconds."""
        granted = [
            {"type": "repository", "name": repository, "actions": list(actions)}
            for repository, actions in access.items()
        ]
        return self._sign({"sub": name, "access": granted}, self.ttl_s, now)

    def issue_refresh(self, name: str, ttl_s: int, now: float | None = None) -> str:
        """A token that is good for nothing but to get other ones."""
        return self._sign({"sub": name, "refresh": True}, ttl_s, now)

    def read(self, token: str, now: float | None = None) -> Claim | None:
        """What the token says; None: it is forged, expired, or of another service."""
        moment = time.time() if now is None else now
        head, _, rest = token.partition(".")
        body, _, signature = rest.partition(".")
        if len(token) > _LONGEST or head != _HEADER:
            return None
        if not hmac.compare_digest(self._signature(body), signature):
            return None
        try:
            claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (ValueError, binascii.Error):
            return None
        if claims.get("aud") != self.service or not claims["nbf"] - _SKEW_S <= moment < claims["exp"]:
            return None
        access = {item["name"]: tuple(item["actions"]) for item in claims.get("access", ())}
        return Claim(claims["sub"], access, bool(claims.get("refresh")))

    def _sign(self, more: dict[str, Any], ttl_s: int, now: float | None) -> str:
        moment = int(time.time() if now is None else now)
        claims = {
            "iss": self.service,
            "aud": self.service,
            "iat": moment,
            "nbf": moment,
            "exp": moment + ttl_s,
            "jti": os.urandom(12).hex(),
            **more,
        }
        body = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).rstrip(b"=").decode()
        return f"{_HEADER}.{body}.{self._signature(body)}"

    def _signature(self, body: str) -> str:
        digest = hmac.digest(self._key, f"{_HEADER}.{body}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def scopes(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The repositories and actions that `scope` parameters ask for; what is not understood is left out."""
    asked: dict[str, tuple[str, ...]] = {}
    for text in texts:
        for word in text.split():
            kind, _, rest = word.partition(":")
            name, _, actions = rest.rpartition(":")
            if kind.partition("(")[0] != "repository" or not name:
                continue
            listed = ACTIONS if "*" in actions.split(",") else tuple(a for a in ACTIONS if a in actions.split(","))
            asked[name] = tuple(dict.fromkeys((*asked.get(name, ()), *listed)))
    return asked
