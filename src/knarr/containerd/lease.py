"""Leases of containerd's: what keeps content and snapshots from its collector until something else refers to them.

A blob that nothing refers to goes with the next collection, which comes after any
burst of deletions: minutes after it was written, or milliseconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from knarr.containerd.client import Containerd
from knarr.containerd.failure import Gone
from knarr.errors import NotFound
from knarr.pb import leases_pb2 as pb
from knarr.spec.digest import Digest

_LEASES = pb.DESCRIPTOR.services_by_name["Leases"]
_LASTS_S = 24 * 3600  # longer than any copy: it only bounds what a killed process leaves
EXPIRE = "containerd.io/gc.expire"


@contextmanager
def leased(daemon: Containerd, *, sync: bool = False) -> Iterator[Containerd]:
    """`daemon` with everything that is made held until the block is left.

    A process that is killed leaves its lease to end after a day, so what has arrived by
    then is there when the copy is run again. With `sync` leaving waits for the collection.
    """
    lease = f"knarr-{os.getpid()}-{os.urandom(6).hex()}"
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + _LASTS_S))
    leases = daemon.caller(_LEASES)
    leases.unary("Create", pb.CreateRequest(id=lease, labels={EXPIRE: until}))
    gone = False
    try:
        yield daemon.under(lease)
    except Gone:
        gone = True  # it stays for the next attempt
        raise
    finally:
        if not gone:
            with suppress(NotFound, Gone):
                leases.unary("Delete", pb.DeleteRequest(id=lease, sync=sync))


def hold(daemon: Containerd, digest: Digest) -> None:
    """Let the lease of `daemon` hold content that may be there: first this, then the look whether it is."""
    if daemon.lease:
        resource = pb.Resource(id=str(digest), type="content")
        daemon.caller(_LEASES).unary("AddResource", pb.AddResourceRequest(id=daemon.lease, resource=resource))
