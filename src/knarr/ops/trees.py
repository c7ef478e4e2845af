"""Records as trees: what an op reads, what it changes, and what an exporter packs.

A record is a link of a chain; this module gives the chain as a mounted tree
(unpacking layers that nobody needed before), lets an op change a tree and commit
it, and keeps the directories a caller lent, which are read in place and copied
only when a RUN mounts them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from knarr.cache.flight import flight
from knarr.cache.record import EMPTY, Record, RecordId
from knarr.cache.store import CacheStore
from knarr.content.growth import Restarted
from knarr.errors import Bug, KnarrError
from knarr.ops.blobs import Blobs, Deferred
from knarr.ops.copytree import CopyOptions, Tree, copy_all, expand
from knarr.ops.world import Active
from knarr.record import replace
from knarr.scope import Flights, Scope, afterwards
from knarr.snapshot.mounting import mounted
from knarr.snapshot.snapshotter import Snapshotter
from knarr.streams import Writable

_COPY, _LEFT = ":copy", ":left"  # how the names of records end that no other build will see


class MountedActive:
    """A writable snapshot mounted at `root` (see `world.Active`)."""

    def __init__(self, trees: DiskTrees, key: str, parent: RecordId | None, mounts: ExitStack, root: str) -> None:
        self.root = root
        self.committed = False
        self._trees, self._key, self._parent, self._mounts = trees, key, parent, mounts

    def commit(self, name: RecordId) -> RecordId:
        """Unmount, commit the snapshot under `name`, and note the record."""
        self._mounts.close()
        self._trees.commit(self._key, name, self._parent)
        self.committed = True
        return name


class DiskTrees:
    """Records as trees on this machine; implements `world.Trees`."""

    def __init__(self, snapshotter: Snapshotter, cache: CacheStore, blobs: Blobs, root: Path, scope: Scope) -> None:
        self._snapshotter = snapshotter
        self._cache = cache
        self._blobs = blobs
        self._run = root / "run"
        self._flight_dir = root / "flights"
        self._scope = scope
        self._flights = Flights()
        self._lent: dict[RecordId, Tree] = {}
        self._fresh: dict[RecordId, Record] = {}  # committed in this build, not yet saved by the drive
        self._deferred: dict[RecordId, tuple[Record, Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._count = 0

    def lend(self, record: RecordId, tree: Tree) -> None:
        self._lent[record] = tree

    def lent(self, record: RecordId | None) -> Tree | None:
        """The caller's directory behind `record`, if it is one."""
        return self._lent.get(record) if record is not None else None

    def record(self, record: RecordId) -> Record:
        """The record, also when it was made by this build and not saved yet."""
        found = self._fresh.get(record) or self._cache.get(record)
        if found is None and record in self._deferred:
            found = self._deferred[record][0]
        if found is None:
            raise Bug(f"no record {record}")
        return found

    def defer(self, record: Record, layer: Deferred, make: Callable[[], None]) -> None:
        """Know a record whose layer is written only when it is packed; `make` makes and saves it as a snapshot."""
        self._deferred[record.id] = (record, make)
        self._blobs.defer(record.id, layer)

    def settle(self) -> None:
        """Make what was deferred and that nobody packed, so that the next build finds it."""
        for id, (_, make) in list(self._deferred.items()):
            if self._cache.get(id) is None:
                make()

    def note(self, record: Record) -> None:
        """Make a record known to this build (the drive saves it when its op is done)."""
        self._fresh[record.id] = record

    def chain(self, record: RecordId | None) -> list[Record]:
        """The links of a tree, bottom up. The empty tree has none, whatever record it goes by."""
        links: list[Record] = []
        while record is not None:
            link = self.record(record)
            if EMPTY not in (link.id, link.same_as):
                links.append(link)
            record = link.parent
        links.reverse()
        return links

    def save_chain(self, outputs: Sequence[tuple[RecordId, Sequence[str]]], *, description: str) -> None:
        """Save finished records with their keys, and with them the links below that this build made."""
        keys = {id: found for id, found in outputs if id not in self._lent}
        saved = {record.id: record for id in keys for record in self._unsaved(id)}
        self._cache.save_many(
            (replace(record, description=record.description or description), keys.get(record.id, ()))
            for record in saved.values()
        )
        for id in saved:
            del self._fresh[id]

    def _unsaved(self, record: RecordId) -> list[Record]:
        """`record` and the links below it that are not saved, bottom up: whatever is saved stands on saved ones."""
        links: list[Record] = []
        below: RecordId | None = self.record(record).id
        while below is not None and below in self._fresh:
            link = self._fresh[below]
            if below == record or EMPTY not in (link.id, link.same_as):
                links.append(link)
            below = link.parent
        links.reverse()
        return links

    # Writing

    @contextmanager
    def active(self, parent: RecordId | None) -> Iterator[MountedActive]:
        parent = self.materialised(parent)
        snapshot = self.snapshot(parent)
        key = self._unique("active")
        mounts = self._snapshotter.prepare(key, snapshot)
        made: list[MountedActive] = []

        def drop() -> None:
            if not any(active.committed for active in made):
                self._snapshotter.remove(key)

        with afterwards(drop), ExitStack() as inner:
            root = inner.enter_context(self._mount(mounts, key))
            made.append(MountedActive(self, key, parent, inner, root))
            yield made[0]

    def keep(self, active: Active) -> RecordId:
        return active.commit(f"{self._unique('failed')}{_LEFT}")

    def commit(self, key: str, name: RecordId, parent: RecordId | None) -> None:
        """Commit the active snapshot `key` as record `name` on top of `parent`."""
        self._snapshotter.commit(name, key)
        now = time.time_ns()
        # One that was put off was made when it was: outputs from before and after this tell the same time of it.
        created = self._deferred[name][0].created_ns if name in self._deferred else now
        self.note(Record(name, parent, snapshot=name, created_ns=created, used_ns=now, uses=1))

    # Reading

    @contextmanager
    def readable(self, record: RecordId | None) -> Iterator[Tree]:
        lent = self.lent(record)
        if lent is not None:
            yield lent
            return
        with self.mounted(record) as path:
            yield Tree(os.fspath(path))

    @contextmanager
    def mounted(self, record: RecordId | None) -> Iterator[Path]:
        snapshot = self.snapshot(self.materialised(record))
        if snapshot is None:
            with self.active(None) as empty:
                yield Path(empty.root)
            return
        layers = self._snapshotter.layers(snapshot)
        if len(layers) == 1:  # a whole tree by itself: nothing to mount
            yield layers[0]
            return
        key = self._unique("view")
        mounts = self._snapshotter.view(key, snapshot)
        with afterwards(partial(self._snapshotter.remove, key)), self._mount(mounts, key) as root:
            yield Path(root)

    def write_difference(
        self, lower: RecordId | None, upper: RecordId | None, out: Writable, *, max_mtime_s: int | None = None
    ) -> None:
        """Write what must be done to the tree `lower` to get the tree `upper`, as one layer tar.

        Raises:
            ContentError: a layer is damaged, or a file has a whiteout's name.
        """
        from knarr.layer import diff

        options = diff.Options(max_mtime_s, self._scope.check, by_content=True)
        snapshot = self.snapshot(self.materialised(lower))
        lowers = self._snapshotter.layers(snapshot) if snapshot is not None else ()
        with self.mounted(upper) as tree:
            if lowers:
                diff.write_between(lowers, tree, out, options=options)
            else:
                diff.write_tree(tree, out, options=options)

    def alias(self, record: RecordId | None, name: RecordId) -> RecordId:
        """Know the tree of `record` as `name`, too."""
        lent = self.lent(record)
        if lent is not None:
            self.lend(name, lent)
        elif links := self.chain(record):
            top = links[-1]
            self.note(replace(top, id=name, snapshot=None, blob=None, same_as=top.same_as or top.id))
        else:
            self.note(Record(name, same_as=EMPTY))
        return name

    def kept(self, record: RecordId) -> RecordId:
        """As `materialised`, but a copy outlives the build: for records whose layers are those of `record`."""
        found = self.materialised(record)
        if found is None:
            raise Bug("no record")
        if found != record and found in self._fresh:
            self.save_chain([(found, ())], description=record)
        return found

    def materialised(self, record: RecordId | None) -> RecordId | None:
        lent = self.lent(record)
        if lent is None or record is None:
            return record
        name = f"{record}{_COPY}"
        if name in self._fresh:
            return name
        return self._flights.once(("copy", record), lambda: self._copy_lent(lent, name))

    def _copy_lent(self, lent: Tree, name: RecordId) -> RecordId:
        if name in self._fresh:
            return name
        with self.active(None) as active:
            options = CopyOptions(contents=True, follow=False)
            if not lent.only:
                copy_all(lent, ["/"], active.root, "/", options, check=self._scope.check)
            for pattern in lent.only:
                for source in expand(lent, pattern, follow=False):
                    copy_all(lent, [source], active.root, source, options, check=self._scope.check)
            return active.commit(name)

    def close(self) -> None:
        """Drop the snapshots that only this build could use: copies of what was lent, and what failed steps left."""
        for end in (_LEFT, _COPY):  # a step may have worked on a copy
            for name in [name for name in self._fresh if name.endswith(end)]:
                self._snapshotter.remove(name)

    # Unpacking

    def snapshot(self, record: RecordId | None) -> str | None:
        """The committed snapshot that is the tree of `record`, unpacked now if it was not yet.

        Raises:
            ContentError: a layer is not what its descriptor says, or cannot be unpacked.
            RegistryError: a layer that is not here cannot be fetched.
        """
        if record is None:
            return None
        link = self.record(record)
        if EMPTY in (link.id, link.same_as):
            return None
        if link.snapshot is not None and self._snapshotter.stat(link.snapshot) is not None:
            return link.snapshot
        return self._flights.once(("unpack", record), lambda: self._unpack(record))

    def _unpack(self, record: RecordId) -> str:
        links = self.chain(record)
        for link in links:
            change = self.change(link)
            if change.id in self._deferred and self._cache.get(change.id) is None:
                self._deferred[change.id][1]()
        links = self.chain(record)
        first = len(links)
        while first and not self._has_snapshot(links[first - 1]):
            first -= 1
        self._blobs.prefetch([self.change(link) for link in links[first:]])
        parent = links[first - 1].snapshot if first else None
        for link in links[first:]:
            with flight(self._flight_dir, f"unpack-{link.id}".replace(":", "-"), scope=self._scope):
                parent = self._unpack_link(link, parent)
        if parent is None:
            raise Bug(f"nothing to unpack for {record}")
        return parent

    def _has_snapshot(self, link: Record) -> bool:
        return link.snapshot is not None and self._snapshotter.stat(link.snapshot) is not None

    def is_within_reach(self, link: Record) -> bool:
        """Whether the layer of `link` is here, or whoever lends it still has it."""
        return self._blobs.is_within_reach(link)

    def change(self, link: Record) -> Record:
        """The record that holds this link's change: itself, or the one it was rebased from."""
        while link.same_as is not None:
            link = self.record(link.same_as)
        return link

    def _unpack_link(self, link: Record, parent: str | None) -> str:
        name = link.snapshot or link.id
        if self._snapshotter.stat(name) is None:
            while not self._unpack_as(name, link, parent):
                pass
        if link.snapshot is None:
            if link.id in self._fresh:
                self._fresh[link.id] = replace(link, snapshot=name)
            else:
                self._cache.update(link.id, snapshot=name)
        return name

    def _unpack_as(self, name: str, link: Record, parent: str | None) -> bool:
        """Unpack one layer as snapshot `name`. False: its bytes were wrong, and come anew from another place."""
        key = self._unique("unpack")
        mounts = self._snapshotter.prepare(key, parent)
        try:
            with self._mount(mounts, key) as root:
                self._blobs.apply(self.change(link), Path(root))
            self._snapshotter.commit(name, key)
        except Restarted:
            self._snapshotter.remove(key)
            return False
        except BaseException:
            with suppress(KnarrError, OSError):
                self._snapshotter.remove(key)
            raise
        return True

    @contextmanager
    def _mount(self, mounts: object, key: str) -> Iterator[str]:
        at = self._run / "mnt" / key
        at.mkdir(parents=True)
        try:
            with mounted(mounts, at) as root:  # type: ignore[arg-type]
                yield os.fspath(root)
        finally:
            at.rmdir()

    def _unique(self, what: str) -> str:
        with self._lock:
            self._count += 1
            return f"{what}-{os.getpid()}-{time.time_ns():x}-{self._count}"
