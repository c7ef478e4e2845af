"""What the drivers have in common: a ledger, and one directory `root/<id>` per snapshot.

A driver says how a new directory is laid out over its parent's, and with which
mounts it becomes a tree. `root/<id>/fs` holds the files in every driver.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from knarr import disk, linux
from knarr.errors import Bug, KnarrError
from knarr.snapshot import tree
from knarr.snapshot.ledger import Entry, Ledger
from knarr.snapshot.snapshotter import LOST, Info, Mount, Usage

if TYPE_CHECKING:
    from knarr.snapshot.lasting import LastingLedger

_SYNC_AGAIN_NS = 30 * 10**9  # the kernel itself writes dirty pages after that time


class Driver(ABC):
    """A `Snapshotter` over a `Ledger`."""

    name: str

    def __init__(self, root: Path, *, lasting: bool = False) -> None:
        """With `lasting` snapshots outlive this process, the boot and a power cut: see `snapshot.lasting`."""
        self.root = Path(os.path.abspath(root))
        self._base = os.fspath(self.root)
        self._lasting = lasting
        self._ledger = _lasting(self.root) if lasting else Ledger(self.root)
        self._has_committed = False

    @abstractmethod
    def _lay_out(self, entry: Entry) -> None:
        """Make the directories of a new snapshot. What is half made when this fails is removed."""

    @abstractmethod
    def _mounts(self, entry: Entry) -> tuple[Mount, ...]: ...

    @abstractmethod
    def over(self, parent: str | None, place: Path, *, fleeting: bool = False) -> tuple[Mount, ...]:
        """The mounts of a writable tree over the committed `parent` that is in no ledger: its changes lie in `place`.

        `place` is an existing directory of the caller's, who removes it. What is in it counts also after a
        power cut, unless the tree is `fleeting`. To be called again for each mount: `parent` may be elsewhere by then.
        """

    @abstractmethod
    def upper(self, name: str) -> Path | None: ...

    @abstractmethod
    def layers(self, name: str | None) -> tuple[Path, ...]: ...

    def prepare(self, name: str, parent: str | None) -> tuple[Mount, ...]:
        return self._begin(name, parent, "active")

    def view(self, name: str, parent: str | None) -> tuple[Mount, ...]:
        return self._begin(name, parent, "view")

    def _begin(self, name: str, parent: str | None, kind: str) -> tuple[Mount, ...]:
        entry = self._ledger.begin(name, parent, kind)
        try:
            self._lay_out(entry)
        except BaseException as error:
            with suppress(KnarrError, OSError):
                self.remove(name)
            if disk.lacks_room(error):
                raise disk.no_room(self._base) from error
            if isinstance(error, OSError):
                raise KnarrError(
                    f"a snapshot cannot be made in {self._base}: {error.strerror}",
                    hint=LOST if isinstance(error, FileNotFoundError) else "",
                ) from error
            raise
        return self._mounts(entry)

    def mounts(self, name: str) -> tuple[Mount, ...]:
        return self._mounts(self._ledger.need(name))

    def commit(self, name: str, active: str) -> None:
        entry = self._ledger.need(active)
        if self._lasting:
            linux.syncfs(self._base)  # what the ledger calls committed is on the disk
        dropped = self._ledger.commit(name, active)
        self._has_committed = True
        if dropped is not None:
            tree.remove(self._directory(dropped))
        else:
            self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        """Drop what only an active snapshot needs. Nothing, unless the driver says otherwise."""
        return

    def remove(self, name: str) -> None:
        entry = self._ledger.find(name)
        if entry is not None and entry.kind != "committed":
            # First what takes room: on a full disk the ledger could not be written otherwise.
            tree.remove(self._directory(entry.id))
        id = self._ledger.remove(name)
        if id is not None:
            tree.remove(self._directory(id))

    def stat(self, name: str) -> Info | None:
        infos = self._ledger.infos(name)
        return infos[0] if infos else None

    def walk(self) -> tuple[Info, ...]:
        return self._ledger.infos()

    def usage(self, name: str) -> Usage:
        entry = self._ledger.need(name)
        known = self._ledger.measured(entry.id)
        if known is not None:
            return Usage(*known)
        found = tree.usage(self._fs(entry.id))
        if entry.kind == "committed":
            self._ledger.remember_measure(entry.id, found.size_bytes, found.inodes)
        return found

    def sweep(self) -> int:
        if self._ledger.unsettled():
            self._sync()
        lost = self._lost()
        if lost:
            self._ledger.forget(entry.id for entry in lost)
        gone = self._ledger.orphans(self._ids_on_disk())
        if gone:
            _unmount_users(self._base, gone)
        for id in gone:
            tree.remove(self._directory(id))
        return len(gone)

    @property
    def lasting(self) -> LastingLedger:
        """The books of a lasting driver."""
        if not self._lasting:
            raise Bug("the driver was not made to last")
        return cast("LastingLedger", self._ledger)

    def leftovers(self) -> tuple[Path, ...]:
        """Directories that no snapshot has: a removal was killed, or half a beginning."""
        return tuple(Path(self._directory(id)) for id in self._ledger.orphans(self._ids_on_disk()))

    def lost(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self._lost())

    def _lost(self) -> list[Entry]:
        # Looked for once more: one that was committed since the directory was read is not lost.
        lost = self._ledger.lost(self._ids_on_disk())
        return [entry for entry in lost if not os.path.isdir(self._fs(entry.id))]

    def close(self) -> None:
        """Let go of the database and of this process's claim: what is still active counts as left behind.

        What was committed is written to the disk, once for all (6 ms after ten
        small steps, 20 on a busy disk; without `volatile` each unmount would have
        taken that), but not twice within half a minute. So a power cut, or a reboot
        before the next sync, costs the work of at most that time: the ledger drops
        what it does not know to be on the disk, and it is built again.
        """
        if self._has_committed and not self._ledger.synced_since(time.time_ns() - _SYNC_AGAIN_NS):
            self._sync()
        self._has_committed = False
        self._ledger.close()

    def _sync(self) -> None:
        now = time.time_ns()
        try:
            linux.syncfs(self._base)
        except OSError:
            return  # not noted as synced: a power cut will cost what was committed
        self._ledger.note_sync(now)

    def _ids_on_disk(self) -> list[int]:
        try:
            return [int(name) for name in os.listdir(self._base) if name.isdigit()]
        except FileNotFoundError:
            return []

    def _directory(self, id: int) -> str:
        return f"{self._base}/{id}"

    def _fs(self, id: int) -> str:
        return f"{self._base}/{id}/fs"


def _lasting(root: Path) -> LastingLedger:
    from knarr.snapshot.lasting import LastingLedger  # no build needs it

    return LastingLedger(root)


def _unmount_users(base: str, ids: Sequence[int]) -> None:
    """Take off mounts that show dead snapshots: there are some when the dead process could not have its own."""
    marks = tuple(f"{base}/{id}/" for id in ids)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        lines = [line for line in table if any(mark in line for mark in marks)]
    for line in reversed(lines):
        at = line.split(" ")[4]
        for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            at = at.replace(code, letter)
        try:
            linux.umount(at, linux.UMOUNT_NOFOLLOW | linux.MNT_DETACH)
        except OSError:
            continue  # unmounted by another sweeper
