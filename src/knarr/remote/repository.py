"""One repository of one registry, as a `content.target.Target` that also mounts and knows referrers.

    registry = Registry(RegistrySettings(), session.credentials, scope=scope)
    repository = registry.repository(Reference.parse("registry.example/team/app:1"))
    root = repository.resolve("1")
    with repository.open(root) as stream:
        ...

Reads go to the endpoints in order (mirrors first), writes to the first that
takes them. Spec: distribution-spec v1.1.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from knarr.content.target import Report
from knarr.errors import DigestMismatch, NotFound, RegistryError, SizeMismatch
from knarr.record import replace
from knarr.remote import auth, listing, referrers, resolve, url
from knarr.remote.access import Access
from knarr.remote.hosts import PULL, Endpoint
from knarr.remote.settings import RegistrySettings
from knarr.remote.transport import Quota, Transport
from knarr.remote.url import Origin
from knarr.remote.wire import Answer
from knarr.scope import Scope
from knarr.session.session import Credentials
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import MAX_MANIFEST_BYTES
from knarr.spec.reference import Reference
from knarr.streams import Readable

_KEPT_MANIFESTS = 8  # just pushed, so that a tag behind them needs no download
_DAMAGED = "what the registry keeps, or a proxy on the way, is damaged: push the image again, or use a mirror"
_GONE = (404, 405)


class Registry:
    """Every registry a user can reach: its repositories share connections, tokens and trust."""

    def __init__(
        self,
        settings: RegistrySettings,
        credentials: Callable[[str], Credentials],
        *,
        scope: Scope | None = None,
        warn: Callable[[str], object] | None = None,
    ) -> None:
        """`credentials` is asked for `host/repository`, then for `host`, and gives `Credentials()` for none.

        `scope` cancels requests under way; `warn` gets each warning of a registry once.
        """
        self._credentials, self._warn = credentials, warn
        self.transport = Transport(settings, credentials, scope=scope, warn=warn)
        self._resting: dict[Origin, float] = {}
        self.subjects = threading.Lock()  # one writer of fallback tags at a time; see `referrers`

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that lie idle."""
        self.transport.pool.close()

    def trusting(self, *hosts: str) -> Registry:
        """A client like this one that does not check the certificates of `hosts`, and speaks HTTP if they have none."""
        settings = self.transport.settings
        more = replace(settings, insecure=settings.insecure | set(hosts))
        found = Registry(more, self._credentials, scope=self.transport.scope, warn=self._warn)
        found.transport.auth.issuer = self.transport.auth.issuer
        return found

    def repository(self, reference: Reference, *, scope: Scope | None = None) -> Repository:
        """The repository that `reference` names; its tag and digest play no part.

        With `scope` its requests are cancelled by that one instead of the client's.
        """
        transport = self.transport if scope is None else self.transport.within(scope)
        access = Access(transport, reference.registry, reference.repository, self._resting)
        return Repository(access, self.subjects)

    def ping(self, host: str) -> bool:
        """Ask `host` (a registry's name) whether it takes us; whether it wanted our login.

        Raises:
            RegistryError: it does not, or it is no registry.
        """
        access = Access(self.transport, host, "", self._resting)
        return access.first(PULL, lambda endpoint, attempts: _ping(self.transport, endpoint, host, attempts))

    def catalog(self, host: str) -> Iterator[str]:
        """The names of all repositories of `host` (a registry's name) that we may see, page by page.

        Raises:
            RegistryError: it does not tell.
        """
        access = Access(self.transport, host, "", self._resting)
        yield from listing.names(access, "/_catalog", f"catalog of {host}", "repositories", auth.CATALOG)

    @property
    def quotas(self) -> dict[str, Quota]:
        """What registries said about their rate limits, by host."""
        return dict(self.transport.quotas)


class Repository:
    """Content and names of one repository; may be used from any thread."""

    complete = True  # a registry takes a manifest only when it has what that names

    def __init__(self, access: Access, subjects: threading.Lock) -> None:
        self._access = access
        self._subjects = subjects
        self._lock = threading.Lock()
        self._declined: dict[Digest, tuple[Endpoint, Answer, url.Url]] = {}  # mounts that became uploads
        self._pushed: dict[Digest, bytes] = {}

    @property
    def name(self) -> str:
        """`host/repository`."""
        return self._access.name

    @property
    def host(self) -> str:
        """The registry's name, `host[:port]`."""
        return self._access.registry

    @property
    def lacks_referrers(self) -> bool:
        """Whether it was seen that the registry has no referrers API: their tags say all."""
        return self._access.lacks_referrers

    def resolve(self, name: str) -> Descriptor:
        """The descriptor a tag or digest text names; the bytes are checked against it when they are read.

        Raises:
            NotFound, RegistryError, Cancelled
        """
        head = resolve.resolve(self._access, name)
        return Descriptor(head.media_type, head.digest, head.size)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """The content, verified on the way, resumed where the connection breaks.

        Raises:
            NotFound: the registry (and every mirror) lacks it.
            DigestMismatch, SizeMismatch, RegistryError, Cancelled: also from `read`.
        """
        from knarr.remote.download import ResumingReader, RewindableReader

        what = f"pull of {descriptor.digest} from {self.name}"
        if descriptor.data is not None and Digest.of(descriptor.data) == descriptor.digest:
            from io import BytesIO

            yield BytesIO(descriptor.data)
            return
        stream = ResumingReader(self._access.transport, what, lambda offset: self._get(descriptor, what, offset))
        try:
            with self._access.transport.scope.on_cancel(stream.abort):
                yield RewindableReader(stream, descriptor.digest, descriptor.size, what=what, hint=_DAMAGED)
        finally:
            stream.close()

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest or an index, verified.

        Raises:
            NotFound, DigestMismatch, SizeMismatch, RegistryError, Cancelled
        """
        if descriptor.size > MAX_MANIFEST_BYTES:
            raise SizeMismatch(f"{self.name}: a manifest of {descriptor.size} bytes; at most {MAX_MANIFEST_BYTES}")
        with self.open(descriptor) as stream:
            return b"".join(iter(lambda: stream.read(MAX_MANIFEST_BYTES), b""))

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the place that pushes go to has the content."""
        what = f"check for {descriptor.digest} in {self.name}"
        target = self._path(descriptor)
        with self._write("HEAD", target, what, 200, *_GONE, headers=_accept(descriptor)) as answer:
            return answer.status == 200 and answer.length in (-1, descriptor.size)

    def lends(self, descriptor: Descriptor) -> bool:
        """Whether the content can be read from here, or from a mirror."""
        return self._length(descriptor) in (-1, descriptor.size)

    def size_of(self, digest: Digest) -> int | None:
        """The size of a blob, here or at a mirror; None: it is not there.

        Raises:
            RegistryError: the registry does not tell, says no or cannot be reached.
        """
        length = self._length(Descriptor("", digest, 0))
        if length == -1:
            raise RegistryError(f"{self.name}: the registry does not tell the size of {digest}")
        return length

    def _length(self, descriptor: Descriptor) -> int | None:
        """What HEAD says: None when the content is not there, -1 when its size is not told."""
        what = f"check for {descriptor.digest} in {self.name}"

        def ask(endpoint: Endpoint, attempts: int) -> int:
            target, headers = self._path(descriptor), _accept(descriptor)
            answer = self._access.send(endpoint, "HEAD", target, what, 200, *_GONE, headers=headers, attempts=attempts)
            with answer:
                if answer.status != 200:
                    raise NotFound(f"{what}: not found", hint=f"asked {endpoint.origin.netloc}")
                return answer.length

        try:
            return self._access.first(PULL, ask)
        except NotFound:
            return None

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        """Store the content. Manifests go by digest (`push_manifest` also sets a tag in the same request).

        Raises:
            DigestMismatch, SizeMismatch, RegistryError, Cancelled
        """
        if _is_document(descriptor):
            raw = b"".join(iter(lambda: content.read(MAX_MANIFEST_BYTES), b""))
            self.push_manifest(descriptor, raw)
            if report is not None:
                report(len(raw))
            return
        from knarr.remote.upload import Upload

        with self._lock:
            begun = self._declined.pop(descriptor.digest, None)
        endpoint = begun[0] if begun else self._access.writer()
        upload = Upload(self._access.transport, endpoint, self._access.repository, descriptor)
        if begun:
            upload.adopt(begun[1], begun[2])
        upload.run(content, report)

    def push_manifest(self, descriptor: Descriptor, raw: bytes, *, tag: str = "", lists: bool = True) -> None:
        """Store a manifest or an index under its digest, or under `tag` (which stores both).

        One with a subject is listed with its subject's referrers, by the registry
        or, where it knows no referrers, in the fallback tag; the latter not without `lists`.

        Raises:
            DigestMismatch, SizeMismatch: `raw` is not what `descriptor` says.
            RegistryError, Cancelled
        """
        if len(raw) != descriptor.size:
            raise SizeMismatch(f"manifest {descriptor.digest}: expected {descriptor.size} bytes, got {len(raw)}")
        if descriptor.digest.algorithm == "sha256" and Digest.of(raw) != descriptor.digest:
            raise DigestMismatch(f"manifest: expected {descriptor.digest}, got {Digest.of(raw)}")
        name = tag or str(descriptor.digest)
        what = f"push of {resolve.called(self._access, name)}"
        kind = (("Content-Type", descriptor.media_type),)
        with self._write("PUT", resolve.path(self._access, name), what, 201, headers=kind, body=raw) as answer:
            listed = answer.headers.get("oci-subject")
        self._keep(descriptor.digest, raw)
        if lists and b'"subject"' in raw and not listed:
            with self._subjects:
                referrers.add(self._access, raw, descriptor)

    def mount_from(self, descriptor: Descriptor, repository: str) -> bool:
        """Take the blob over from a sibling repository; False: push it in the ordinary way.

        Spec: distribution-spec v1.1, end-11. The upload that a registry begins
        instead is used by the `push` that follows.
        """
        if _is_document(descriptor):
            return False
        endpoint = self._access.writer()
        target = f"/{self._access.repository}/blobs/uploads/?mount={descriptor.digest}&from={repository}"
        rights = auth.push(self._access.repository) | auth.pull(repository)
        what = f"mount of {descriptor.digest} from {repository} into {self.name}"
        try:
            answer = self._access.send(endpoint, "POST", target, what, 201, 202, scopes=rights)
        except RegistryError as error:
            if error.status in (0, 429) or error.temporary:
                raise
            return False  # no right to read the source, or no mounts here: the push says what matters
        with answer:
            if answer.status == 202:
                asked = self._access.transport.locate(endpoint, target)
                with self._lock:
                    self._declined[descriptor.digest] = (endpoint, answer, asked)
            return answer.status == 201

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """Let `name` lead to a manifest or an index that is there.

        Raises:
            NotFound, RegistryError, Cancelled
        """
        with self._lock:
            raw = self._pushed.get(descriptor.digest)
        self.push_manifest(descriptor, raw if raw is not None else self.fetch_manifest(descriptor), tag=name)

    def tags(self) -> Iterator[str]:
        """Every tag of the repository, page by page, in the registry's order.

        Raises:
            NotFound: no such repository.
        """
        yield from listing.tags(self._access)

    def predecessors(self, descriptor: Descriptor, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """The manifests whose subject is `descriptor`, from the referrers API or the fallback tag."""
        return referrers.listed(self._access, descriptor, artifact_type)

    def delete(self, name: str) -> None:
        """Remove a tag, or (by digest) a manifest with all its tags.

        Raises:
            NotFound: there is nothing of this name.
            RegistryError: the registry allows no deletion, or not to us.
        """
        what = f"deletion of {resolve.called(self._access, name)}"
        subject = referrers.subject_of(self._access, name) if ":" in name else None
        rights = auth.delete(self._access.repository)
        try:
            with self._write("DELETE", resolve.path(self._access, name), what, 202, 404, scopes=rights) as answer:
                if answer.status == 404:
                    raise NotFound(f"{resolve.called(self._access, name)}: not found")
        except RegistryError as error:
            if error.status == 405 and ":" in name:
                error.hint = "deletion is switched off there (distribution: REGISTRY_STORAGE_DELETE_ENABLED=true)"
            raise
        if subject is not None:
            with self._subjects:
                referrers.remove(self._access, subject, Digest.parse(name))

    def _get(self, descriptor: Descriptor, what: str, offset: int) -> tuple[Origin, Answer]:
        """A GET of the content from `offset` on, at the first endpoint that has it."""
        headers = _accept(descriptor)
        if offset:
            headers += (("Range", f"bytes={offset}-"),)

        def ask(endpoint: Endpoint, attempts: int) -> tuple[Origin, Answer]:
            target = self._path(descriptor)
            answer = self._access.send(endpoint, "GET", target, what, 200, 206, 404, headers=headers, attempts=attempts)
            if answer.status == 404:
                answer.close()
                raise NotFound(f"{what}: not found", hint=f"asked {endpoint.origin.netloc}")
            return endpoint.origin, answer

        return self._access.first(PULL, ask)

    def _write(self, method: str, target: str, what: str, *expect: int, **more: Any) -> Answer:
        more.setdefault("scopes", auth.push(self._access.repository))
        return self._access.send(self._access.writer(), method, target, what, *expect, **more)

    def _path(self, descriptor: Descriptor) -> str:
        kind = "manifests" if _is_document(descriptor) else "blobs"
        return f"/{self._access.repository}/{kind}/{descriptor.digest}"

    def _keep(self, digest: Digest, raw: bytes) -> None:
        with self._lock:
            self._pushed[digest] = raw
            while len(self._pushed) > _KEPT_MANIFESTS:
                self._pushed.pop(next(iter(self._pushed)))


def _is_document(descriptor: Descriptor) -> bool:
    return mediatype.is_manifest(descriptor.media_type) or mediatype.is_index(descriptor.media_type)


def _accept(descriptor: Descriptor) -> tuple[tuple[str, str], ...]:
    return resolve.ACCEPT if _is_document(descriptor) else ()


def _ping(transport: Transport, endpoint: Endpoint, host: str, attempts: int) -> bool:
    from knarr.remote.transport import Request

    transport.send(endpoint, Request("GET", "/", f"login at {host}", attempts=attempts)).close()
    return transport.auth.was_asked(transport.effective(endpoint))
