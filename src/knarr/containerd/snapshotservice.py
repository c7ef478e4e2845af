"""knarr's snapshotters behind containerd's gRPC: what a proxy plugin of containerd's asks.

Keys and names are containerd's (it adds its namespace and a number), and so is the
bookkeeping of who needs what: here nothing is removed but on its word. The codes of
failures are those it acts on: ALREADY_EXISTS, NOT_FOUND, FAILED_PRECONDITION.

Facts: containerd's api/services/snapshots/v1 and core/snapshots/storage (2.3).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from knarr.containerd.failure import AlreadyExists, Refused
from knarr.errors import NotFound, Unsupported, UsageError
from knarr.pb import snapshots_pb2 as pb
from knarr.pb.containerdtypes_pb2 import Mount as Wire
from knarr.snapshot import tree

if TYPE_CHECKING:
    import grpc

    from knarr.snapshot.driver import Driver
    from knarr.snapshot.lasting import Detail, LastingLedger
    from knarr.snapshot.snapshotter import Mount

SNAPSHOTS = pb.DESCRIPTOR.services_by_name["Snapshots"]
_KINDS = {"active": pb.ACTIVE, "view": pb.VIEW, "committed": pb.COMMITTED}
_MANY = 100  # entries of one answer
_MOUNTS = {"fuse-overlayfs": "fuse3.fuse-overlayfs"}  # by the helper mount.fuse3, as containerd mounts by type alone


class SnapshotService:
    """One method per call; see `buildkit.service`. `driver` must be a lasting one."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._ledger: LastingLedger = driver.lasting

    def prepare(self, request: pb.PrepareSnapshotRequest, context: grpc.ServicerContext) -> pb.PrepareSnapshotResponse:
        self._check_new(request.key, request.parent)
        mounts = self._driver.prepare(request.key, request.parent or None)
        self._label(request.key, request.labels)
        return pb.PrepareSnapshotResponse(mounts=map(_wire, mounts))

    def view(self, request: pb.ViewSnapshotRequest, context: grpc.ServicerContext) -> pb.ViewSnapshotResponse:
        self._check_new(request.key, request.parent)
        mounts = self._driver.view(request.key, request.parent or None)
        self._label(request.key, request.labels)
        return pb.ViewSnapshotResponse(mounts=map(_wire, mounts))

    def mounts(self, request: pb.MountsRequest, context: grpc.ServicerContext) -> pb.MountsResponse:
        if self._need(request.key).kind == "committed":
            raise Refused(f"snapshot {request.key} is committed: it has no mounts")
        return pb.MountsResponse(mounts=map(_wire, self._driver.mounts(request.key)))

    def commit(self, request: pb.CommitSnapshotRequest, context: grpc.ServicerContext) -> Empty:
        active = self._need(request.key)
        if active.kind != "active":
            raise Refused(f"snapshot {request.key} cannot be committed: it is {active.kind}")
        if request.parent not in ("", active.parent):
            raise Unsupported(f"snapshot {request.key} cannot get another parent when it is committed")
        if self._ledger.details(request.name):
            raise AlreadyExists(f"snapshot {request.name} exists already")
        self._driver.commit(request.name, request.key)
        self._label(request.name, request.labels)
        return Empty()

    def remove(self, request: pb.RemoveSnapshotRequest, context: grpc.ServicerContext) -> Empty:
        self._need(request.key)
        if any(one.parent == request.key for one in self._ledger.details()):
            raise Refused(f"snapshot {request.key} cannot be removed: others stand on it")
        self._driver.remove(request.key)
        return Empty()

    def stat(self, request: pb.StatSnapshotRequest, context: grpc.ServicerContext) -> pb.StatSnapshotResponse:
        return pb.StatSnapshotResponse(info=_info(self._need(request.key)))

    def update(self, request: pb.UpdateSnapshotRequest, context: grpc.ServicerContext) -> pb.UpdateSnapshotResponse:
        name, given = request.info.name, dict(request.info.labels)
        labels = dict(self._need(name).labels)
        for path in request.update_mask.paths or ("labels",):
            start, _, key = path.partition(".")
            if start != "labels":
                raise UsageError(f"{path} of a snapshot cannot be changed")
            if not key:
                labels = given
            elif key in given:
                labels[key] = given[key]
            else:
                labels.pop(key, None)
        self._ledger.label(name, labels)
        return pb.UpdateSnapshotResponse(info=_info(self._need(name)))

    def list(
        self, request: pb.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListSnapshotsResponse]:
        if request.filters:
            raise Unsupported("snapshots cannot be filtered")
        found = self._ledger.details()
        for start in range(0, len(found), _MANY):
            yield pb.ListSnapshotsResponse(info=map(_info, found[start : start + _MANY]))

    def usage(self, request: pb.UsageRequest, context: grpc.ServicerContext) -> pb.UsageResponse:
        self._need(request.key)
        usage = self._driver.usage(request.key)
        return pb.UsageResponse(size=usage.size_bytes, inodes=usage.inodes)

    def cleanup(self, request: pb.CleanupRequest, context: grpc.ServicerContext) -> Empty:
        """Remove directories that no snapshot has: of removals that were killed."""
        for directory in self._driver.leftovers():
            tree.remove(os.fspath(directory))
        return Empty()

    def _check_new(self, key: str, parent: str) -> None:
        if not key:
            raise UsageError("a snapshot needs a key")
        if self._ledger.details(key):
            raise AlreadyExists(f"snapshot {key} exists already")
        if parent and self._need(parent).kind != "committed":
            raise UsageError(f"snapshot {parent} cannot be a parent: it is not committed")

    def _need(self, name: str) -> Detail:
        found = self._ledger.details(name)
        if not found:
            raise NotFound(f"there is no snapshot {name}")
        return found[0]

    def _label(self, name: str, labels: Mapping[str, str]) -> None:
        if labels:
            self._ledger.label(name, labels)


def _wire(mount: Mount) -> Wire:
    return Wire(type=_MOUNTS.get(mount.type, mount.type), source=mount.source, options=mount.options)


def _info(found: Detail) -> pb.Info:
    return pb.Info(
        name=found.name,
        parent=found.parent,
        kind=_KINDS[found.kind],
        created_at=_at(found.created_ns),
        updated_at=_at(found.updated_ns),
        labels=found.labels,
    )


def _at(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9)
