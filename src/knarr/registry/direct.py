"""The own registry without HTTP, for builds in the server's process: a push is an entry in its tables.

`Client` is a `remote` client for every other registry; references to the own one
lead straight to the store. The same rules hold there as over HTTP: who may do
what (by the login that the build's client has for this registry), what a manifest
may name, what is told to webhooks. Repositories that the server fetches from an
upstream are asked for over HTTP, since they are not in the tables alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from knarr.content.target import Report
from knarr.errors import NotFound, RegistryError, SizeMismatch
from knarr.registry import manifests, tables
from knarr.registry.events import Event
from knarr.registry.refusal import Refusal
from knarr.registry.rights import ANYONE, DELETE, PULL, PUSH, Caller
from knarr.registry.routes import checked_tag
from knarr.registry.upstreams import foreign
from knarr.remote.access import Access
from knarr.remote.repository import Registry as Remote
from knarr.remote.repository import Repository
from knarr.scope import Scope
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.reference import Reference
from knarr.streams import Readable

if TYPE_CHECKING:
    from knarr.registry.access import Guard
    from knarr.registry.parts import Parts
    from knarr.remote.settings import RegistrySettings
    from knarr.session.session import Credentials

T = TypeVar("T")
_OCTETS = "application/octet-stream"


class Home:
    """What a server lends to builds in its process."""

    def __init__(self, parts: Parts, guard: Guard | None, tell: Callable[[Event], object]) -> None:
        """`tell` is given what happens, from any thread."""
        self.parts = parts
        self.guard = guard
        self.tell = tell

    def caller(self, login: Credentials) -> Caller:
        """Whose login that is.

        Raises:
            RegistryError: nobody's.
        """
        if self.guard is None:
            return ANYONE
        found = self.guard.known(
            login.username, login.password, refresh=login.identity_token, access=login.registry_token
        )
        if found is None:
            raise RegistryError("the login or password is wrong", status=401, codes=("UNAUTHORIZED",))
        return found


class Client(Remote):
    """Every registry a build can reach, the own one by the shortest way."""

    def __init__(
        self,
        settings: RegistrySettings,
        credentials: Callable[[str], Credentials],
        *,
        scope: Scope | None = None,
        warn: Callable[[str], object] | None = None,
        home: Home,
        names: frozenset[str],
    ) -> None:
        """`names` are what references call the own registry: `host[:port]`."""
        super().__init__(settings, credentials, scope=scope, warn=warn)
        self._home = home
        self._names = names

    def trusting(self, *hosts: str) -> Remote:
        plain = super().trusting(*hosts)
        return Client(
            plain.transport.settings,
            self._credentials,
            scope=self.transport.scope,
            warn=self._warn,
            home=self._home,
            names=self._names,
        )

    def repository(self, reference: Reference, *, scope: Scope | None = None) -> Repository:
        if reference.registry not in self._names:
            return super().repository(reference, scope=scope)
        with _as_registry(f"{reference.registry}/{reference.repository}"):
            if foreign(self._home.parts.settings.upstreams, reference.repository) is not None:
                return super().repository(reference, scope=scope)
        transport = self.transport if scope is None else self.transport.within(scope)
        access = Access(transport, reference.registry, reference.repository, self._resting)
        return Direct(access, self._home, self._credentials)


class Direct(Repository):
    """One repository of the own registry. May be used from any thread."""

    def __init__(self, access: Access, home: Home, credentials: Callable[[str], Credentials]) -> None:
        import threading

        super().__init__(access, threading.Lock())
        self._home = home
        self._parts = home.parts
        self._credentials = credentials
        self._repository = access.repository
        self._known: Caller | None = None

    def resolve(self, name: str) -> Descriptor:
        self._check(PULL)
        entry = self._read(lambda db: tables.manifest(db, self._repository, name))
        if entry is None:
            raise NotFound(f"{self._called(name)}: not found")
        return Descriptor(entry.media_type, entry.digest, entry.size)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        if not self.lends(descriptor):
            raise NotFound(f"pull of {descriptor.digest} from {self.name}: not found")
        if _is_document(descriptor):
            self._tell(PULL, descriptor.digest, descriptor.media_type, descriptor.size)
        with self._parts.store.open(descriptor) as stream:
            yield stream

    def has(self, descriptor: Descriptor) -> bool:
        return self.lends(descriptor)

    def lends(self, descriptor: Descriptor) -> bool:
        self._check(PULL)
        digest = str(descriptor.digest)

        def is_entered(db: tables.Connection) -> bool:
            if tables.blob_size(db, self._repository, digest) is not None:
                return True
            return tables.manifest(db, self._repository, digest) is not None

        return self._read(is_entered) and self._parts.store.has(descriptor)

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        if _is_document(descriptor):
            super().push(descriptor, content, report=report)
            return
        self._check(PULL, PUSH)
        store, digest = self._parts.store, descriptor.digest
        store.push(descriptor, content, report=report)  # what is there already is not read
        store.settle(digest)
        now = time.time_ns()

        def enter(db: tables.Connection) -> None:
            self._parts.see(digest)
            tables.add_blob(db, self._repository, digest, descriptor.size, now)

        self._write_down(enter)
        self._tell(PUSH, digest, _OCTETS, descriptor.size)
        if report is not None:
            report(descriptor.size)

    def push_manifest(self, descriptor: Descriptor, raw: bytes, *, tag: str = "", lists: bool = True) -> None:
        self._check(PULL, PUSH)
        limit = self._parts.settings.limits.manifest_bytes
        if len(raw) != descriptor.size or len(raw) > limit:
            raise SizeMismatch(
                f"manifest {descriptor.digest}: {len(raw)} bytes; expected {descriptor.size}, at most {limit}"
            )
        with _as_registry(f"push of {self._called(tag or str(descriptor.digest))}"):
            digest = manifests.check(raw, descriptor.digest)
            entry, document = manifests.read(raw, digest, descriptor.media_type)
            names = [checked_tag(tag)] if tag else []
        manifests.keep(self._parts.store, raw, digest)

        def enter(db: tables.Connection) -> None:
            self._parts.see(digest)
            manifests.add(db, self._repository, entry, document, tags=names, sparse=self._parts.settings.sparse)

        self._write_down(enter)
        self._tell(PUSH, digest, entry.media_type, entry.size, tag)

    def mount_from(self, descriptor: Descriptor, repository: str) -> bool:
        caller = self._check(PULL, PUSH)
        if _is_document(descriptor) or not caller.reads(repository) or not self._parts.store.has(descriptor):
            return False
        now, digest = time.time_ns(), str(descriptor.digest)
        size = self._write_down(lambda db: tables.mount_blob(db, self._repository, digest, [repository], now))
        if size is not None:
            self._tell("mount", digest, _OCTETS, size)
        return size is not None

    def tags(self) -> Iterator[str]:
        self._check(PULL)
        if not self._read(lambda db: tables.is_known(db, self._repository)):
            raise NotFound(f"tags of {self.name}: not found")
        page, last = self._parts.settings.limits.page, ""
        while found := self._read(lambda db, last=last: tables.tags(db, self._repository, last, page)):  # type: ignore[misc]  # mypy: lambda with a default
            yield from found
            last = found[-1]

    def predecessors(self, descriptor: Descriptor, artifact_type: str = "") -> tuple[Descriptor, ...]:
        self._check(PULL)
        entries = self._read(lambda db: list(tables.referrers(db, self._repository, str(descriptor.digest))))
        return tuple(
            Descriptor(
                entry.media_type,
                entry.digest,
                entry.size,
                artifact_type=entry.artifact_type,
                annotations=entry.annotations,
            )
            for entry in entries
            if artifact_type in ("", entry.artifact_type)
        )

    def delete(self, name: str) -> None:
        self._check(DELETE)
        if not self._parts.settings.delete:
            raise RegistryError(f"deletion of {self._called(name)}: this registry does not delete", status=405)
        remove = tables.remove_manifest if ":" in name else tables.remove_tag
        if not self._write_down(lambda db: remove(db, self._repository, name, time.time_ns())):
            raise NotFound(f"{self._called(name)}: not found")
        self._tell(DELETE, name if ":" in name else "", tag="" if ":" in name else name)

    def _check(self, *actions: str) -> Caller:
        """The caller, who may do all of `actions` here.

        Raises:
            RegistryError: 401 for who should log in, 403 for who has, and may not.
        """
        caller = self._known
        if caller is None:
            login = self._credentials(self.name) if self._home.guard is not None else None
            if login is not None and login.empty:
                login = self._credentials(self.host)
            caller = self._known = ANYONE if login is None else self._home.caller(login)
        for action in actions:
            if not caller.may(action, self._repository):
                if caller.name in ("", "anonymous"):
                    message, status = f"{action} {self.name}: login required", 401
                else:
                    message, status = f"{action} {self.name}: {caller.name} may not do this", 403
                raise RegistryError(message, status=status, hint=f"log in to {self.host} where the build is started")
        return caller

    def _read(self, question: Callable[[tables.Connection], T]) -> T:
        return self._parts.ledger.read(question)

    def _write_down(self, change: Callable[[tables.Connection], T]) -> T:
        with _as_registry(f"push to {self.name}"):
            return self._parts.ledger.write(change)

    def _tell(self, action: str, digest: str, media_type: str = "", size: int = 0, tag: str = "") -> None:
        caller = self._known.name if self._known is not None else ""
        self._home.tell(Event(action, self._repository, digest, media_type, size, tag, caller))

    def _called(self, name: str) -> str:
        return f"{self.name}{'@' if ':' in name else ':'}{name}"


@contextmanager
def _as_registry(what: str) -> Iterator[None]:
    """A refusal as who asked over HTTP would see it."""
    try:
        yield
    except Refusal as refusal:
        if refusal.status == 404 and refusal.code != "MANIFEST_BLOB_UNKNOWN":
            raise NotFound(f"{what}: {refusal.message}") from None
        raise RegistryError(f"{what}: {refusal.message}", status=refusal.status, codes=(refusal.code,)) from None


def _is_document(descriptor: Descriptor) -> bool:
    return mediatype.is_manifest(descriptor.media_type) or mediatype.is_index(descriptor.media_type)
