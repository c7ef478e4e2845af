"""Who can prove to be whom by a password: an htpasswd file with bcrypt hashes, and robots with long random secrets.

The file is read again when it changes. A password that was right is remembered
(as a keyed hash) for some minutes, since bcrypt is slow on purpose and clients
with Basic authentication send it with every request. Wrong ones cost the full
price each time, on a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from knarr.errors import UsageError
from knarr.record import record

ROBOT = "robot$"
_REMEMBER_S = 300.0
_REMEMBERED = 10_000
_BCRYPT = ("$2y$", "$2b$", "$2a$")
_NOBODY = b"$2b$10$CwTycUXWue0Thq9StjUM0uJ8y0R6VQwWi4KFOeFHrgb3R04QLbL7a"  # so that unknown names take as long


@record
class Robot:
    """An account for programs. Its name as a login is `robot$NAME`."""

    name: str
    secret_sha256: str  # hex; the secret has 256 random bits, so a fast hash will do
    expires: float = 0.0  # seconds since 1970; 0: never


class Passwords:
    """The accounts. `check` may be called from any thread."""

    def __init__(self, htpasswd: Path | None = None, robots: Iterable[Robot] = ()) -> None:
        """Read the file, if there is one.

        Raises:
            UsageError: it cannot be read, or holds another kind of hash than bcrypt.
        """
        self._file = htpasswd
        self._robots = {ROBOT + robot.name: robot for robot in robots}
        self._key = os.urandom(32)
        self._right: dict[bytes, float] = {}  # keyed hash of name and password → until when it is believed
        self._stamp: tuple[int, int, int] | None = None
        self._hashes: dict[str, bytes] = {}
        if htpasswd is not None:
            self._reload(htpasswd)

    def check(self, name: str, password: str) -> bool:
        """Whether the account exists and this is its password. Takes a tenth of a second, now and then."""
        robot = self._robots.get(name)
        if robot is not None:
            given = hashlib.sha256(password.encode()).hexdigest()
            return hmac.compare_digest(given, robot.secret_sha256) and not 0 < robot.expires < time.time()
        if self._file is not None and _stamp(self._file) != self._stamp:
            with suppress(UsageError):  # half written: the accounts stay as they were
                self._reload(self._file)
        mark = hmac.digest(self._key, f"{len(name)}:{name}{password}".encode(), "sha256")
        if self._right.get(mark, 0.0) > time.monotonic():
            return True
        import bcrypt

        known = self._hashes.get(name)
        given_bytes = password.encode()[:72]  # what bcrypt reads; htpasswd cuts there, too
        if b"\0" in given_bytes or not bcrypt.checkpw(given_bytes, known or _NOBODY) or known is None:
            return False
        if len(self._right) >= _REMEMBERED:
            self._right.clear()
        self._right[mark] = time.monotonic() + _REMEMBER_S
        return True

    def knows(self, name: str) -> bool:
        """Whether there is such an account, still."""
        robot = self._robots.get(name)
        if robot is not None:
            return not 0 < robot.expires < time.time()
        return name in self._hashes

    def _reload(self, file: Path) -> None:
        stamp = _stamp(file)
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
        hashes = {}
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, _, value = line.partition(":")
            if not value.startswith(_BCRYPT):
                raise UsageError(
                    f"{file}:{number}: the password of {name!r} is not hashed with bcrypt",
                    hint=f"make it with: htpasswd -B {file} {name}",
                )
            hashes[name] = value.encode()
        self._hashes, self._stamp = hashes, stamp
        self._right.clear()


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        known = os.stat(file)
    except OSError:
        return None
    return known.st_mtime_ns, known.st_ino, known.st_size
