"""The images of a containerd on this machine, for builds to start from: asked by name, read while the build lasts.

nearby = Nearby(Containerd("/run/containerd/containerd.sock", "k8s.io"))
nearby.find(Reference.parse("app:1"))  # a descriptor, or None
nearby.close()
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from knarr.containerd.client import dial
from knarr.containerd.place import ContainerdPlace
from knarr.errors import NotFound

if TYPE_CHECKING:
    from knarr.config import Containerd as Where
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.reference import Reference
    from knarr.streams import Readable


class Nearby:
    """The namespace that a setting names. Connected when it is first asked; safe from any thread."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._place: ContainerdPlace | None = None
        self._is_open = False

    def find(self, reference: Reference) -> Descriptor | None:
        """What `reference` leads to there, or None.

        Raises:
            KnarrError: containerd does not answer.
        """
        place = self._opened()
        if place is None:
            return None
        try:
            if reference.digest is not None:
                return place.resolve(str(reference.digest))
            return place.images.get(str(reference.tagged())).target
        except NotFound:
            return None

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """The content of something that was found.

        Raises:
            NotFound: it is not there: containerd may have an image for some platforms only.
        """
        place = self._opened()
        if place is None:
            raise NotFound(f"containerd has no namespace {self._where.namespace}")
        return place.open(descriptor)

    def close(self) -> None:
        """Let go of what was found. It may be used again afterwards."""
        with self._lock:
            self._is_open, self._place = False, None
            stack, self._stack = self._stack, ExitStack()
        stack.close()

    def _opened(self) -> ContainerdPlace | None:
        with self._lock:
            if not self._is_open:
                daemon = self._stack.enter_context(dial(self._where.address, self._where.namespace))
                if daemon.namespace in daemon.namespaces():
                    self._place = ContainerdPlace(daemon)
                self._is_open = True
            return self._place
