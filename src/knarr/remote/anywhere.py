"""Content wherever it is: in our own store, or in a repository that is known to have it.

An image that was built and pushed need not be here as a whole: layers of its base
may never have been fetched. This is the `Fetcher` for such images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from knarr.content.store import Store
from knarr.errors import KnarrError, NotFound
from knarr.spec.descriptor import Descriptor
from knarr.spec.reference import Reference
from knarr.streams import Readable

if TYPE_CHECKING:
    from knarr.remote.repository import Registry
    from knarr.scope import Scope


class Anywhere:
    """Opens what is in `store`, and streams the rest from where `store.sources` says it was seen last."""

    def __init__(self, store: Store, registry: Callable[[], Registry], scope: Scope) -> None:
        self._store, self._registry, self._scope = store, registry, scope
        self._gave: dict[str, None] = {}  # repositories that gave something: they will have what it names, too

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """The content.

        Raises:
            NotFound: it is not here, and no repository is known to have it.
            RegistryError: those that are known did not give it.
        """
        if self._store.has(descriptor):
            with self._store.open(descriptor) as stream:
                yield stream
            return
        failure: KnarrError = NotFound(
            f"{descriptor.digest} is not in the store, and no registry is known to have it",
            hint="pull or build the image again",
        )
        for name in dict.fromkeys((*self._store.sources.of(descriptor.digest), *self._gave)):
            repository = self._registry().repository(Reference.parse(name), scope=self._scope)
            with ExitStack() as stack:
                try:
                    stream = stack.enter_context(repository.open(descriptor))
                except KnarrError as error:
                    failure = error
                    continue
                self._gave[name] = None
                yield stream
                return
        raise failure

    def knows(self, descriptor: Descriptor) -> bool:
        """Whether it is here, or a repository is known to have it."""
        return self._store.has(descriptor) or bool(self._store.sources.of(descriptor.digest))
