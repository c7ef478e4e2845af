"""The `Snapshotter` protocol and its records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from knarr.record import record


@record
class Mount:
    """One mount(2) call: how a snapshot becomes a tree. `type` is `bind`, `overlay` …"""

    type: str
    source: str
    options: tuple[str, ...] = ()


# For messages: what the driver finds missing while it works, its next `sweep` forgets.
LOST = "were files below KNARR_ROOT removed by hand? knarr forgets what is lost; build once more"


@record
class Info:
    """What is known of a snapshot."""

    name: str
    parent: str | None
    committed: bool
    created_ns: int = 0
    labels: Mapping[str, str] | None = None


@record
class Usage:
    """Disk use of one snapshot without its parents, in blocks really taken."""

    size_bytes: int
    inodes: int


class Snapshotter(Protocol):
    """Makes trees out of parents. Names are opaque, unique texts chosen by the caller.

    Safe to use from several threads and from several processes on one root.
    """

    name: str  # "overlayfs", "native"

    def prepare(self, name: str, parent: str | None) -> tuple[Mount, ...]:
        """Begin an active (writable) snapshot on top of a committed `parent`.

        Raises:
            ContentError: `name` exists, or `parent` is not a committed snapshot.
        """
        ...

    def view(self, name: str, parent: str | None) -> tuple[Mount, ...]:
        """A read-only active snapshot: the parent's tree. Removed with `remove`."""
        ...

    def mounts(self, name: str) -> tuple[Mount, ...]:
        """The mounts of an active snapshot, once more."""
        ...

    def commit(self, name: str, active: str) -> None:
        """Make `active` immutable under `name`. Atomic. If `name` is already committed, `active` is dropped."""
        ...

    def remove(self, name: str) -> None:
        """Delete a snapshot nobody has as parent. A name that is not there is success."""
        ...

    def stat(self, name: str) -> Info | None:
        """What is known of `name`, or None."""
        ...

    def walk(self) -> tuple[Info, ...]:
        """All snapshots."""
        ...

    def usage(self, name: str) -> Usage: ...

    def upper(self, name: str) -> Path | None:
        """The directory that holds only this snapshot's own changes (an overlay upper), if there is one.

        None: the driver has whole trees, and a diff must compare with the parent's tree (`lower`).
        """
        ...

    def layers(self, name: str | None) -> tuple[Path, ...]:
        """The directories whose union is the committed snapshot's tree, topmost first (one for `native`)."""
        ...

    def lost(self) -> tuple[str, ...]:
        """Committed snapshots whose files somebody has removed behind our back; `sweep` forgets them."""
        ...

    def sweep(self) -> int:
        """Remove what a killed process left (active snapshots without a living owner, half-removed ones)."""
        ...
