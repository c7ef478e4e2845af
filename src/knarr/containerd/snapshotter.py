"""A snapshotter of containerd's as one of our own: builds whose trees live in containerd.

containerd makes the directories and keeps the books; we mount what it says, on this same
machine, and write layers as with a driver of our own. Works with those that give
directories: overlayfs, native, and proxy snapshotters of either kind.

**Names.** A layer that an image's chainID names goes by just that, as with every client
of containerd's: what was unpacked there is used, and what a build unpacks, others find. All
other snapshots have the state directory in their name, for several may share a namespace.

**Who keeps what.** One lease for each state directory holds all that its builds know, and
ends only by `remove`: a snapshot of our own is deleted, one with a chainID let go of, for
an image may need it; containerd's collector decides. What is active carries its maker's token.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc

from knarr.containerd.client import Containerd, dial
from knarr.containerd.failure import AlreadyExists, Refused
from knarr.containerd.unpack import need_snapshotter
from knarr.errors import ContentError, NotFound, Unsupported
from knarr.owner import Owner
from knarr.pb import leases_pb2, snapshots_pb2
from knarr.snapshot.mounting import split_lowers
from knarr.snapshot.snapshotter import Info, Mount, Usage

_SNAPSHOTS = snapshots_pb2.DESCRIPTOR.services_by_name["Snapshots"]
_LEASES = leases_pb2.DESCRIPTOR.services_by_name["Leases"]
_LAYER = "layer:"  # what records of layers are called: by their chainID
_OWNER = "knarr.owner"
_OVERLAYS = {"overlay": "overlay", "fuse3.fuse-overlayfs": "fuse-overlayfs"}


class ContainerdSnapshotter:
    """The snapshotter `kind` of a containerd, for the state below `root`. Safe from any thread and process."""

    def __init__(self, root: Path, address: str, namespace: str, kind: str) -> None:
        """Dials with the first call."""
        self.name = f"containerd-{kind}"
        self._address, self._namespace, self._kind = address, namespace, kind
        self._prefix = "knarr-" + hashlib.sha256(os.fsencode(os.path.abspath(root))).hexdigest()[:12]
        self._owners = root / "containerd-owners"
        self._owner: Owner | None = None
        self._lock = threading.Lock()
        self._layers: dict[str, tuple[Path, ...]] = {}
        self._uppers: dict[str, bool] = {}  # whether a snapshot's topmost directory has its own changes only

    @cached_property
    def _daemon(self) -> Containerd:
        daemon = dial(self._address, self._namespace)
        need_snapshotter(daemon, self._kind)
        daemon.make_namespace()
        with suppress(AlreadyExists):
            daemon.caller(_LEASES).unary("Create", leases_pb2.CreateRequest(id=self._prefix))
        return daemon.under(self._prefix)

    def prepare(self, name: str, parent: str | None) -> tuple[Mount, ...]:
        return self._begin("Prepare", snapshots_pb2.PrepareSnapshotRequest, name, parent)

    def view(self, name: str, parent: str | None) -> tuple[Mount, ...]:
        return self._begin("View", snapshots_pb2.ViewSnapshotRequest, name, parent)

    def _begin(self, method: str, request: Any, name: str, parent: str | None) -> tuple[Mount, ...]:
        above = self._key(parent) if parent is not None else ""
        labels = {_OWNER: self._token()}
        message = request(snapshotter=self._kind, key=self._key(name), parent=above, labels=labels)
        try:
            return tuple(map(_mount, self._call(method, message).mounts))
        except AlreadyExists:
            raise ContentError(f"snapshot {name} exists already") from None
        except (NotFound, Refused) as error:
            raise ContentError(f"snapshot {parent} cannot be a parent: {error.message}") from None

    def mounts(self, name: str) -> tuple[Mount, ...]:
        request = snapshots_pb2.MountsRequest(snapshotter=self._kind, key=self._key(name))
        return tuple(map(_mount, self._call("Mounts", request).mounts))

    def commit(self, name: str, active: str) -> None:
        request = snapshots_pb2.CommitSnapshotRequest(
            snapshotter=self._kind, name=self._key(name), key=self._key(active)
        )
        try:
            self._call("Commit", request)
        except AlreadyExists:
            self._hold(self._key(name))
            self.remove(active)
        except (NotFound, Refused) as error:
            raise ContentError(f"snapshot {active} cannot be committed: {error.message}") from None

    def remove(self, name: str) -> None:
        self._layers.pop(name, None)
        key = self._key(name)
        if name.startswith(_LAYER):
            with suppress(NotFound):
                self._lease("DeleteResource", leases_pb2.DeleteResourceRequest, key)
            return
        try:
            self._call("Remove", snapshots_pb2.RemoveSnapshotRequest(snapshotter=self._kind, key=key))
        except NotFound:
            return
        except Refused as error:
            raise ContentError(f"snapshot {name} cannot be removed: {error.message}") from None

    def stat(self, name: str) -> Info | None:
        key = self._key(name)
        try:
            if name.startswith(_LAYER):
                self._hold(key)  # first this: what is there now must not go
            found = self._call("Stat", snapshots_pb2.StatSnapshotRequest(snapshotter=self._kind, key=key)).info
        except NotFound:
            return None
        return self._info(found)

    def walk(self) -> tuple[Info, ...]:
        """Those that the lease holds, parents before what stands on them."""
        request = leases_pb2.ListResourcesRequest(id=self._prefix)
        held = self._daemon.caller(_LEASES).unary("ListResources", request).resources
        names = {resource.id for resource in held if resource.type == self._resource_type}
        found = {one.name: one for one in self._listed()}
        return tuple(self._info(found[name]) for name in _parents_first(found) if name in names)

    def usage(self, name: str) -> Usage:
        found = self._call("Usage", snapshots_pb2.UsageRequest(snapshotter=self._kind, key=self._key(name)))
        return Usage(found.size, found.inodes)

    def upper(self, name: str) -> Path | None:
        self.layers(name)
        return self._layers[name][0] if self._uppers[name] else None

    def layers(self, name: str | None) -> tuple[Path, ...]:
        if name is None:
            return ()
        known = self._layers.get(name)
        if known is None:
            known = self._look(name)
            self._layers[name] = known
        return known

    def _look(self, name: str) -> tuple[Path, ...]:
        """The directories of a committed snapshot: what a view of it would mount."""
        info = self.stat(name)
        key = f"look-{os.urandom(6).hex()}"
        mounts = self.view(key, name)
        self.remove(key)
        if len(mounts) != 1:
            raise _not_directories(self._kind, mounts)
        (mount,) = mounts
        if mount.type in _OVERLAYS.values():
            lowers = next((option[9:] for option in mount.options if option.startswith("lowerdir=")), "")
            paths = tuple(map(Path, split_lowers(lowers)))
            self._uppers[name] = True
        elif mount.type == "bind":
            paths = (Path(mount.source),)
            # One directory with a parent below it is a whole tree, by which nobody can tell what changed.
            self._uppers[name] = info is not None and info.parent is None
        else:
            raise _not_directories(self._kind, mounts)
        if not all(map(os.path.isdir, paths)):
            raise Unsupported(
                f"the snapshots of the containerd at {self._address} are not to be seen from here: {paths[0]}",
                hint="run this on the same machine, in a mount namespace that has its root",
            )
        return paths

    def lost(self) -> tuple[str, ...]:
        return ()  # containerd's books are its own affair: `stat` asks it each time

    def sweep(self) -> int:
        # First what there is, then who lives: who begins in between is not taken for dead.
        found = {one.name: one for one in self._listed() if one.name.startswith(f"{self._prefix}/")}
        dead = Owner.dead(self._owners)
        living = set(os.listdir(self._owners)).difference(dead) if self._owners.is_dir() else set()
        gone = 0
        for key in reversed(_parents_first(found)):
            if found[key].kind == snapshots_pb2.COMMITTED or found[key].labels.get(_OWNER, "") in living:
                continue
            with suppress(NotFound, Refused):
                self._call("Remove", snapshots_pb2.RemoveSnapshotRequest(snapshotter=self._kind, key=key))
                gone += 1
        for token in dead:
            Owner.forget(self._owners, token)
        return gone

    def close(self) -> None:
        """Let go of the connection and of this process's claim: what is still active counts as left behind."""
        with self._lock:
            if self._owner is not None and self._owner.is_ours:
                self._owner.release()
            self._owner = None
            daemon = self.__dict__.pop("_daemon", None)
        if daemon is not None:
            daemon.close()

    def _listed(self) -> Iterator[Any]:
        call = self._daemon.caller(_SNAPSHOTS).stream(
            "List", snapshots_pb2.ListSnapshotsRequest(snapshotter=self._kind)
        )
        try:
            for answer in call:
                yield from answer.info
        except grpc.RpcError as error:
            raise self._daemon.failure(error) from None

    def _info(self, found: Any) -> Info:
        created = found.created_at.seconds * 10**9 + found.created_at.nanos
        parent = self._named(found.parent) if found.parent else None
        return Info(self._named(found.name), parent, found.kind == snapshots_pb2.COMMITTED, created, dict(found.labels))

    def _key(self, name: str) -> str:
        return name.removeprefix(_LAYER) if name.startswith(_LAYER) else f"{self._prefix}/{name}"

    def _named(self, key: str) -> str:
        own = f"{self._prefix}/"
        return key.removeprefix(own) if key.startswith(own) else _LAYER + key

    @property
    def _resource_type(self) -> str:
        return f"snapshots/{self._kind}"

    def _hold(self, key: str) -> None:
        self._lease("AddResource", leases_pb2.AddResourceRequest, key)

    def _lease(self, method: str, request: Any, key: str) -> None:
        resource = leases_pb2.Resource(id=key, type=self._resource_type)
        self._daemon.caller(_LEASES).unary(method, request(id=self._prefix, resource=resource))

    def _call(self, method: str, message: Any) -> Any:
        return self._daemon.caller(_SNAPSHOTS).unary(method, message)

    def _token(self) -> str:
        with self._lock:
            if self._owner is None or not self._owner.is_ours:
                self._owner = Owner.claim(self._owners)
            return self._owner.token


def _mount(found: Any) -> Mount:
    options = tuple(found.options)
    if found.type in _OVERLAYS:
        return Mount(_OVERLAYS[found.type], "overlay", options)
    return Mount(found.type, found.source, options)


def _parents_first(found: dict[str, Any]) -> list[str]:
    """The names, each after that of its parent."""
    ordered: dict[str, None] = {}
    for name in found:
        line = []
        while name in found and name not in ordered:
            line.append(name)
            name = found[name].parent
        ordered.update(dict.fromkeys(reversed(line)))
    return list(ordered)


def _not_directories(kind: str, mounts: tuple[Mount, ...]) -> Unsupported:
    types = ", ".join(mount.type for mount in mounts) or "nothing"
    return Unsupported(
        f"containerd's snapshotter {kind} gives no directories, but mounts of type {types}",
        hint="use its overlayfs or native, or a proxy snapshotter that gives overlay mounts",
    )
