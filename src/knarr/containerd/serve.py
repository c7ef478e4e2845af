"""Serve a snapshotter to containerd on a unix socket.

with serving_snapshotter(driver, "/run/knarr/snapshotter.sock"):
    ...
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from knarr.buildkit.rpcthreads import RpcThreads
from knarr.buildkit.service import OPTIONS, serving
from knarr.buildkit.unixsocket import answers
from knarr.containerd.failure import abort
from knarr.containerd.snapshotservice import SNAPSHOTS, SnapshotService
from knarr.errors import KnarrError, UsageError
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.snapshot.driver import Driver

_LAST_WORDS_S = 5.0  # for calls that are under way when it ends: a commit syncs the disk


@contextmanager
def serving_snapshotter(driver: Driver, address: str) -> Iterator[None]:
    """Answer for `driver`, a lasting one, at the socket `address` while the block lasts. Only root may ask.

    Raises:
        UsageError: somebody listens there already.
        KnarrError: the socket cannot be made.
    """
    path = address.removeprefix("unix://")
    if not path.startswith("/"):
        raise UsageError(f"{address}: not the path of a socket", hint="such as /run/knarr/snapshotter.sock")
    with Scope() as scope:
        threads = RpcThreads(scope)
        server = grpc.server(threads, options=OPTIONS)
        server.add_generic_rpc_handlers([serving(SNAPSHOTS, SnapshotService(driver), fail=abort)])
        _bind(server, path)
        server.start()
        try:
            yield
        finally:
            server.stop(_LAST_WORDS_S).wait()
            threads.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _bind(server: grpc.Server, path: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    except OSError as error:
        raise KnarrError(f"{error.filename or path}: {error.strerror}") from error
    if answers(path):
        raise UsageError(f"{path}: somebody listens there already", hint="choose another --address, or stop it")
    mask = os.umask(0o177)  # the socket is there for no moment with more rights than it will have
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise KnarrError(f"{path}: cannot listen there: {error}") from error
    finally:
        os.umask(mask)
