"""Checksums of what steps select from trees, for cache keys: of lent directories by memory, of others by reading."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import Bug

if TYPE_CHECKING:
    from knarr.cache.contenthash import TreeHasher
    from knarr.cache.record import RecordId
    from knarr.cache.statcache import StatCache
    from knarr.ops.trees import DiskTrees
    from knarr.ops.world import World
    from knarr.solver.keys import Selection


class Contents:
    """Of one run of the solver; safe from several threads."""

    def __init__(self, world: World, trees: DiskTrees) -> None:
        self._world = world
        self._trees = trees
        self._lock = threading.Lock()
        self.hashers: dict[RecordId, TreeHasher] = {}  # of lent directories
        self._listings: dict[tuple[RecordId, Selection], Mapping[str, str]] = {}  # of trees that steps made
        self._memories: list[StatCache] = []

    def checksum(self, record: RecordId, selection: Selection) -> str:
        """The checksum of what `selection` takes from the tree of `record`.

        Raises:
            NotFound: it takes something that is not there.
        """
        if self._trees.lent(record) is not None:
            return self._hasher(record).checksum_of(selection)
        from knarr.cache.contenthash import TreeHasher

        with self._trees.readable(record) as tree:
            hasher = TreeHasher(tree.root, name="image", check=self._world.scope.check)
            checksum, self._listings[record, selection] = hasher.checksum_and_listing(selection)
        return checksum

    def listing(self, record: RecordId, selection: Selection) -> Mapping[str, str]:
        """The files behind a checksum that was asked for, each with its own."""
        hasher = self.hashers.get(record)
        return hasher.listing(selection) if hasher else self._listings.get((record, selection), {})

    def save(self) -> None:
        """Keep what was learned about the files of lent directories for the next build."""
        for memory in self._memories:
            memory.save()

    def _hasher(self, record: RecordId) -> TreeHasher:
        """The hasher of a lent directory, which remembers the digests of files that keep their stat data."""
        from knarr.cache.contenthash import TreeHasher
        from knarr.cache.statcache import StatCache

        with self._lock:
            hasher = self.hashers.get(record)
            tree = self._trees.lent(record)
            if hasher is None and tree is not None:
                memory = StatCache.for_directory(self._world.settings.root / "contexts", Path(tree.root))
                self._memories.append(memory)
                hasher = TreeHasher(
                    tree.root,
                    cache=memory,
                    zero_owner=tree.zero_owner,
                    hidden=tree.hidden,
                    name=tree.name,
                    check=self._world.scope.check,
                )
                self.hashers[record] = hasher
            if hasher is None:
                raise Bug(f"{record} was not lent")
            return hasher
