"""The places of a sync, opened: repositories of registries, and layouts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from knarr.errors import NotFound
from knarr.image.copy import PRESENT
from knarr.image.layoutrepository import LayoutRepository
from knarr.image.spot import LAYOUT, Spot
from knarr.remote.repository import Registry, Repository
from knarr.scope import Flights, Scope
from knarr.spec.digest import Digest

Place = Repository | LayoutRepository


class Places:
    """Each repository once, with what was seen to be in it. May be used from any thread."""

    def __init__(self, registry: Registry, scope: Scope) -> None:
        self._registry, self._scope = registry, scope
        self._lock = threading.Lock()
        self._open: dict[str, Place] = {}
        self._blobs: dict[str, set[Digest]] = {}
        self._flights = Flights()

    def reader(self, spot: Spot) -> Place:
        """To read from.

        Raises:
            NotFound: there is no such layout.
        """
        if spot.kind == LAYOUT:
            return LayoutRepository.at(Path(spot.path))
        return self._repository(spot)

    def writer(self, spot: Spot) -> Place:
        """To write to; a layout is made if there is none."""
        if spot.kind == LAYOUT:
            with self._lock:
                if spot.path not in self._open:
                    self._open[spot.path] = LayoutRepository.create(Path(spot.path))
                return self._open[spot.path]
        return self._repository(spot)

    def _repository(self, spot: Spot) -> Place:
        assert spot.reference is not None
        with self._lock:
            if spot.repository not in self._open:
                self._open[spot.repository] = self._registry.repository(spot.reference, scope=self._scope)
            return self._open[spot.repository]

    def catalog(self, host: str) -> tuple[str, ...]:
        """The repositories of a registry.

        Raises:
            RegistryError: it does not tell.
        """
        return tuple(self._registry.catalog(host))

    def tags(self, spot: Spot, *, may_lack: bool = False) -> tuple[str, ...]:
        """The tags of a repository; with `may_lack`, one that does not exist has none."""
        try:
            return tuple(self.reader(spot).tags())
        except NotFound:
            if may_lack:
                return ()
            raise

    def seen(self, spot: Spot) -> set[Digest]:
        """Blobs that are known to be in a repository."""
        with self._lock:
            return self._blobs.setdefault(spot.repository, set())

    def note(self, spot: Spot, digests: set[Digest]) -> None:
        """They are in it now."""
        with self._lock:
            self._blobs.setdefault(spot.repository, set()).update(digests)

    def once(self, spot: Spot, digest: Digest, send: Callable[[], str]) -> str:
        """`send()`, which brings a blob to a repository; who comes meanwhile, or later, finds it there."""
        if digest in self.seen(spot):
            return PRESENT

        def lead() -> str:
            how = send()
            self.note(spot, {digest})
            return how

        return self._flights.once((spot.repository, digest), lead)

    def siblings(self, spot: Spot, digest: Digest) -> list[str]:
        """Repositories on the same registry that are known to have a blob."""
        if spot.reference is None:
            return []
        start = f"{spot.reference.registry}/"
        with self._lock:
            known = [name for name, has in self._blobs.items() if digest in has]
        return [name[len(start) :] for name in known if name.startswith(start) and name != spot.repository][:2]


def host_of(spot: Spot) -> str:
    """The registry that has a place; empty for a layout."""
    return spot.reference.registry if spot.reference is not None else ""


def tag_of(spot: Spot) -> str:
    return spot.reference.tag if spot.reference is not None else spot.tag


def locator_of(spot: Spot) -> str:
    """What to ask the place for."""
    return spot.reference.locator if spot.reference is not None else spot.tag


def name_of(spot: Spot) -> str:
    """The whole name, as the state file and people know it."""
    return str(spot.reference) if spot.reference is not None else f"{spot.repository}:{spot.tag}"
