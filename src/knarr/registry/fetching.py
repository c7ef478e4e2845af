"""What an upstream has, brought into the store: manifests at once, blobs once for all who wait for them.

Everything blocks and runs on threads of its own, so that a slow upstream takes none
from those who are served from the disk. What was fetched is kept byte for byte.

A blob is only fetched when a manifest that is here names it: its size is known
then, and nobody can make the cache fetch what no image has.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from knarr.content.growth import Growth
from knarr.content.store import Store
from knarr.errors import ContentError, KnarrError, NotFound
from knarr.registry import manifests, marks, tables
from knarr.registry.ledger import Ledger
from knarr.registry.upstreams import Foreign
from knarr.scope import Flights
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import decode
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.remote.repository import Registry, Repository

_REMEMBERED = 100_000  # tags and subjects, some ten megabytes
_DOWNLOADS = 8  # at once; more wait their turn


class Fetcher:
    """Brings things from upstreams into one store. `client` is made when it is first needed."""

    def __init__(self, store: Store, ledger: Ledger, client: Callable[[], Registry]) -> None:
        self._store = store
        self._ledger = ledger
        self._make_client = client
        self._client: Registry | None = None
        self._lock = threading.Lock()
        self._flights = Flights()
        self._growing: dict[Digest, Growth] = {}
        self._checked: dict[tuple[str, str], float] = {}  # repository and tag → when the upstream confirmed it
        self._threads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="download")

    def is_fresh(self, repository: str, tag: str, fresh_s: float) -> bool:
        """Whether the upstream was asked about the tag so lately."""
        return time.monotonic() - self._checked.get((repository, tag), -fresh_s) < fresh_s

    def manifest(self, origin: Foreign, repository: str, reference: str) -> None:
        """See that the manifest the upstream has under a tag or digest is here, and that the tag leads to it.

        Raises:
            NotFound: the upstream has none.
            KnarrError: it cannot be asked.
        """
        self._flights.once((repository, reference), lambda: self._manifest(origin, repository, reference))

    def referrers(self, origin: Foreign, repository: str, subject: Digest) -> None:
        """See that the upstream's referrers of `subject` are here.

        Raises:
            KnarrError: it cannot be asked.
        """
        if self.is_fresh(repository, subject, origin.upstream.fresh_s):
            return
        far = self._repository(origin)
        for item in far.predecessors(Descriptor("", subject, 0)):
            self._keep(far, repository, item, tag="")
        self._confirm(repository, subject)

    def tags(self, origin: Foreign) -> list[str]:
        """Every tag of the upstream's repository.

        Raises:
            NotFound, KnarrError
        """
        return sorted(self._repository(origin).tags())

    def expected(self, repository: str, digest: Digest) -> Descriptor | None:
        """The descriptor of a blob that a manifest here names; None: no manifest does."""
        for parent in self._ledger.read(lambda db: marks.parents(db, repository, digest)):
            try:
                raw = self._store.path(Digest(parent)).read_bytes()
                for item in decode(raw).successors:
                    if item.digest == digest:
                        return item.bare()
            except (OSError, ContentError):
                continue
        return None

    def blob(self, origin: Foreign, repository: str, descriptor: Descriptor) -> Growth:
        """The blob, on its way in; whoever comes while it is, follows the same download."""
        with self._lock:
            growth = self._growing.get(descriptor.digest)
            if growth is None:
                growth = self._growing[descriptor.digest] = Growth()
                self._threads.submit(self._download, origin, repository, descriptor, growth)
        return growth

    def enter(self, repository: str, descriptor: Descriptor) -> None:
        """The repository has a blob that is in the store."""
        now = time.time_ns()
        self._ledger.write(lambda db: tables.add_blob(db, repository, descriptor.digest, descriptor.size, now))

    def close(self) -> None:
        """Give up what is being fetched."""
        if self._client is not None:
            self._client.transport.scope.cancel()
        self._threads.shutdown(cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def _confirm(self, repository: str, name: str) -> None:
        if len(self._checked) >= _REMEMBERED:
            self._checked.clear()
        self._checked[repository, name] = time.monotonic()

    def _manifest(self, origin: Foreign, repository: str, reference: str) -> None:
        far = self._repository(origin)
        found = far.resolve(reference)
        tag = "" if ":" in reference else reference
        here = self._ledger.read(lambda db: tables.manifest(db, repository, reference))
        if here is None or here.digest != found.digest:
            self._keep(far, repository, found, tag=tag)
        if tag:
            self._confirm(repository, tag)

    def _keep(self, far: Repository, repository: str, descriptor: Descriptor, *, tag: str) -> None:
        known = self._ledger.read(lambda db: tables.manifest(db, repository, descriptor.digest))
        if known is not None and not tag:
            return
        if self._store.find(descriptor.digest) is not None and known is not None:
            raw = self._store.path(descriptor.digest).read_bytes()
        else:
            raw = far.fetch_manifest(descriptor)
            manifests.keep(self._store, raw, descriptor.digest)
        entry, document = manifests.read(raw, descriptor.digest, descriptor.media_type)
        tags = [tag] if tag else []
        self._ledger.write(lambda db: manifests.add(db, repository, entry, document, tags=tags, sparse="all"))

    def _download(self, origin: Foreign, repository: str, descriptor: Descriptor, growth: Growth) -> None:
        failure: BaseException | None = None
        try:
            with self._repository(origin).open(descriptor) as stream:
                self._store.push(descriptor, stream, growth=growth)
            self.enter(repository, descriptor)
        except BaseException as error:
            failure = error
        finally:
            with self._lock:
                self._growing.pop(descriptor.digest, None)
            growth.end(failure)

    def _repository(self, origin: Foreign) -> Repository:
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
        return self._client.repository(Reference.parse(origin.reference))


def is_missing(error: KnarrError) -> bool:
    """Whether an upstream said that there is nothing, which is an answer and no failure."""
    return isinstance(error, NotFound)


def described(error: KnarrError) -> str:
    """One line about why an upstream could not be asked, fit for a header."""
    return json.dumps(error.message, ensure_ascii=True)[1:-1].replace('\\"', "'")[:300]
