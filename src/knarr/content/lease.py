"""Leases: what keeps content from being collected while somebody works with it.

A lease holds digests until it is released, until it expires, or until the
process that took it is dead, whichever comes first. The order that makes it
safe: first `add` the digest, then look whether the blob is there. The collector
reads leases in the same transaction in which it deletes.

    with store.leases.take() as lease:
        lease.add(descriptor.digest)
        if store.find(descriptor.digest) is None:
            ...
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Container
from pathlib import Path
from types import TracebackType

from knarr.content.database import Database
from knarr.owner import Owner
from knarr.spec.digest import Digest

DEFAULT_TTL_S = 24 * 3600.0  # longer than any build; only bounds a lease whose owner cannot be seen to be dead


class Lease:
    """A lease this process holds. Leaving its `with` block releases it."""

    def __init__(self, database: Database, lease_id: str) -> None:
        self.id = lease_id
        self._database = database
        self._lock = threading.Lock()
        self._held: set[str] = set()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    def add(self, *digests: Digest) -> None:
        """Hold these, too; the content may still be absent. Cheap for what is held already."""
        with self._lock:
            new = [str(digest) for digest in digests if digest not in self._held]
        if not new:
            return
        with self._database.write() as db:
            db.executemany("INSERT OR IGNORE INTO lease_items VALUES (?, ?)", [(self.id, digest) for digest in new])
        with self._lock:
            self._held.update(new)

    def release(self) -> None:
        """Hold nothing any more. May be called twice."""
        with self._database.write() as db:
            db.execute("DELETE FROM leases WHERE id = ?", (self.id,))


class Leases:
    """The leases of one store. `owners` is the directory in which living processes are known by their locks."""

    def __init__(self, database: Database, owners: Path) -> None:
        self._database = database
        self._owners = owners
        self._lock = threading.Lock()
        self._owner: Owner | None = None

    def take(self, *digests: Digest, ttl_s: float = DEFAULT_TTL_S) -> Lease:
        """A new lease on `digests` that ends with this process, or after `ttl_s` seconds."""
        lease = Lease(self._database, os.urandom(8).hex())
        expires = time.time_ns() + int(ttl_s * 1e9)
        with self._database.write() as db:
            db.execute("INSERT INTO leases VALUES (?, ?, ?)", (lease.id, self._token(), expires))
        lease.add(*digests)
        return lease

    def held(self, besides: Container[str] = ()) -> frozenset[Digest]:
        """Every digest that a valid lease holds, of any process, `besides` those."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT digest FROM lease_items JOIN leases ON leases.id = lease WHERE expires_ns > ?",
                (time.time_ns(),),
            ).fetchall()
        return frozenset(Digest(row[0]) for row in rows if row[0] not in besides)

    def sweep(self) -> int:
        """Forget the leases that expired and those of dead processes; returns how many."""
        dead = Owner.dead(self._owners)
        with self._database.write() as db:
            gone = db.execute("DELETE FROM leases WHERE expires_ns <= ?", (time.time_ns(),)).rowcount
            for token in dead:
                gone += db.execute("DELETE FROM leases WHERE owner = ?", (token,)).rowcount
        for token in dead:
            Owner.forget(self._owners, token)
        return gone

    def close(self) -> None:
        """Give up this process's claim: leases still open then count as a dead process's."""
        with self._lock:
            if self._owner is not None and self._owner.is_ours:
                with self._database.read() as db:
                    held = db.execute("SELECT 1 FROM leases WHERE owner = ?", (self._owner.token,)).fetchone()
                if held is None:
                    Owner.forget(self._owners, self._owner.token)
                self._owner.release()
            self._owner = None

    def _token(self) -> str:
        with self._lock:
            if self._owner is None or not self._owner.is_ours:
                self._owner = Owner.claim(self._owners)
            return self._owner.token
