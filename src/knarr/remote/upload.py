"""A blob into a repository: one request where possible, chunks where needed, resumed where it broke off.

- Small, or something that can be rewound: POST, then one PUT with all of it.
- Larger and readable only once: POST, a PATCH per chunk (the chunk is held, so it
  can be sent again), then an empty PUT.
- After a temporary failure the registry is asked how far it got (GET on the
  upload), and the rest follows in chunks. An upload it has forgotten is begun
  again if the content can be rewound.
- 413 to the whole means: in chunks (a proxy before the registry limits bodies).
- Where a journal is kept, an upload that ended in the middle, with its process or
  by a failure that may pass, is gone on with by whoever sends that blob next.

Spec: distribution-spec v1.1, "Pushing blobs"; end-4a, 5, 6, 13, 14.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from knarr.content.target import Report
from knarr.errors import DigestMismatch, KnarrError, RegistryError, SizeMismatch
from knarr.remote import auth, url
from knarr.remote.hosts import Endpoint
from knarr.remote.transport import Request, Transport
from knarr.remote.url import Url
from knarr.remote.wire import Answer
from knarr.spec.descriptor import Descriptor
from knarr.streams import CHUNK, Readable

if TYPE_CHECKING:
    from knarr.remote.uploadjournal import Entry

_PROGRESS = 64 << 10  # bytes: an attempt that came no further is a failure like the one before
_OCTETS = (("Content-Type", "application/octet-stream"),)


class Source:
    """The content of a blob, by place: anywhere if it can be rewound, else only from where it was read last."""

    def __init__(self, descriptor: Descriptor, content: Readable, report: Report | None) -> None:
        self.size = descriptor.size
        self._name = f"blob {descriptor.digest}"
        self._content = content
        self._report = report
        seekable = getattr(content, "seekable", None)
        self.rewinds = bool(seekable is not None and seekable())
        self._start = cast(Any, content).tell() if self.rewinds else 0  # a seekable Readable is a file
        self._at = 0  # where the next read gives bytes from
        self._held = b""  # the last bytes read from something that does not rewind
        self._held_at = 0

    def part(self, offset: int, length: int) -> bytes | Part:
        """The bytes from `offset` on, as a request body.

        Raises:
            SizeMismatch: the content is shorter, or longer than its descriptor says.
            RegistryError: they were read before and are gone.
        """
        if self.rewinds:
            return Part(self, offset, length)
        held_end = self._held_at + len(self._held)
        if not self._held_at <= offset <= held_end or held_end != self._at:
            raise RegistryError(f"{self._name}: the upload broke, and the content cannot be read again")
        kept = self._held[offset - self._held_at :][:length]
        self._held = kept + b"".join(self.pieces(self._at, length - len(kept)))
        self._held_at = offset
        return self._held

    def skip(self, offset: int) -> None:
        """Nothing before `offset` is asked for. What cannot be rewound is read up to there.

        Raises:
            SizeMismatch: the content is shorter.
        """
        if not self.rewinds:
            for _ in self.pieces(self._at, offset - self._at):
                continue
            self._held_at = self._at

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        """Read `length` bytes; a content of another size, or with a wrong digest, fails before its last piece."""
        if offset != self._at:
            cast(Any, self._content).seek(self._start + offset)
            self._at = offset
        end = offset + length
        while self._at < end:
            piece = self._content.read(min(CHUNK, end - self._at))
            if not piece:
                raise SizeMismatch(f"{self._name}: expected {self.size} bytes, got {self._at}")
            self._at += len(piece)
            if self._at == self.size and self._content.read(1):
                raise SizeMismatch(f"{self._name}: expected {self.size} bytes, got more")
            yield piece
            if self._report is not None:
                self._report(self._at)


class Part:
    """A slice of a source that can be rewound: a `wire.Body`."""

    def __init__(self, source: Source, offset: int, length: int) -> None:
        self._source = source
        self._offset = offset
        self.length = length

    def pieces(self) -> Iterator[bytes]:
        return self._source.pieces(self._offset, self.length)


class Upload:
    """One upload to one endpoint, from POST to its end."""

    def __init__(self, transport: Transport, endpoint: Endpoint, repository: str, descriptor: Descriptor) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._repository = repository
        self._digest = descriptor.digest
        self._size = descriptor.size
        self._what = f"push of {descriptor.digest} to {endpoint.namespace or endpoint.origin.netloc}/{repository}"
        self._location: Url | None = None
        self._chunk = transport.settings.chunk_bytes
        self._offset = 0  # bytes that the registry has
        self._entry: Entry | None = None
        self._store = ""  # which store the registry says it has: see `content.sharing`

    def adopt(self, answer: Answer, asked: Url) -> None:
        """Go on with an upload that another request has begun (a mount that was declined)."""
        self._begun(answer, asked)

    def run(self, content: Readable, report: Report | None = None) -> None:
        """Send the content. On failure nothing is visible, and the upload is called off.

        Raises:
            DigestMismatch, SizeMismatch: the content is not what the descriptor says.
            RegistryError, Cancelled
        """
        source = Source(Descriptor("", self._digest, self._size), content, report)
        settings = self._transport.settings
        if not settings.uploads_dir or self._size <= settings.whole_bytes:
            self._run(source)
            return
        from knarr.remote import uploadjournal

        key = (str(self._endpoint.origin), self._endpoint.prefix, self._repository, self._digest)
        with uploadjournal.entry(settings.uploads_dir, *key) as self._entry:
            self._run(source)

    def _run(self, source: Source) -> None:
        try:
            if not self._goes_on(source):
                self._persist(source)
        except BaseException as error:
            if self._entry is None or not _may_pass(error):
                self._call_off()
                self._finish()
            raise
        self._finish()

    def _goes_on(self, source: Source) -> bool:
        """Take up what an earlier process left; whether the blob is there already."""
        left = self._entry.location if self._entry is not None and self._location is None else None
        if left is None:
            return False
        self._location = left
        try:
            if self._recover():
                return True
        except RegistryError:
            self._location, self._offset = None, 0
        source.skip(self._offset)
        return False

    def _finish(self) -> None:
        if self._entry is not None:
            self._entry.finish()

    def _persist(self, source: Source) -> None:
        budget = self._transport.settings.retry
        whole = source.rewinds or source.size <= self._transport.settings.whole_bytes
        failures = 0
        while True:
            before = self._offset
            try:
                if self._location is None:
                    self._begin()
                if self._lend():
                    return
                if whole and self._offset == 0:
                    self._commit(source.part(0, self._size))
                else:
                    self._send_chunks(source)
                    self._commit(None)
                return
            except RegistryError as error:
                if error.status == 413 and whole:
                    whole, self._location = False, None
                    continue
                forgotten = error.status == 404 and self._location is not None
                if not (error.temporary or forgotten) or failures + 1 >= budget.attempts:
                    raise
                if forgotten:
                    self._location, self._offset = None, 0
            failures += 1
            self._transport.scope.sleep(budget.wait(failures))
            if self._recover():
                return
            whole = whole and self._offset == 0
            if self._offset - before >= _PROGRESS:
                failures = 0

    def _begin(self) -> None:
        target = f"/{self._repository}/blobs/uploads/"
        with self._send("POST", target, 202) as answer:
            self._begun(answer, self._transport.locate(self._endpoint, target))

    def _begun(self, answer: Answer, asked: Url) -> None:
        self._offset = 0
        self._moved(answer, asked)
        self._store = answer.headers.get("knarr-store")
        least = answer.headers.get("oci-chunk-min-length")
        if least.isascii() and least.isdigit():
            self._chunk = max(self._chunk, int(least))

    def _lend(self) -> bool:
        """Whether the registry has our own store, and has taken the blob from there."""
        announced, self._store = self._store, ""  # once: what was declined is sent
        if not (announced and self._transport.settings.store_dir) or self._offset:
            return False
        from knarr.content import sharing

        here = self._here()
        upload = here.target.partition("?")[0].rpartition("/")[2]
        proof = sharing.lent(self._transport.settings.store_dir, announced, upload, self._digest)
        if not proof:
            return False
        target = Url(here.origin, url.with_query(here.target, f"digest={self._digest}"))
        headers = (*_OCTETS, (sharing.PROOF, proof))
        with self._send("PUT", target, 201, 400, headers=headers, body=b"", attempts=1) as answer:
            return answer.status == 201

    def _send_chunks(self, source: Source) -> None:
        """PATCH until the registry has everything."""
        while self._offset < self._size:
            length = min(self._chunk, self._size - self._offset)
            place = ("Content-Range", f"{self._offset}-{self._offset + length - 1}")
            body = source.part(self._offset, length)
            with self._send("PATCH", self._here(), 202, headers=(*_OCTETS, place), body=body, attempts=1) as answer:
                reached = _reached(answer)
                if not self._offset < reached <= self._offset + length:
                    raise RegistryError(
                        f"{self._what}: was sent up to byte {self._offset + length}, says it has {reached}",
                        temporary=True,
                    )
                self._moved(answer, self._here())
                self._offset = reached

    def _commit(self, body: Any) -> None:
        here = self._here()
        target = Url(here.origin, url.with_query(here.target, f"digest={self._digest}"))
        wait_s = self._transport.settings.commit_timeout_s
        try:
            self._send("PUT", target, 201, headers=_OCTETS, body=body, attempts=1, timeout_s=wait_s).close()
        except RegistryError as error:
            if "DIGEST_INVALID" in error.codes:
                raise DigestMismatch(f"{self._what}: the content does not hash to this digest") from error
            if "SIZE_INVALID" in error.codes:
                raise SizeMismatch(f"{self._what}: the content is not of {self._size} bytes") from error
            raise

    def _recover(self) -> bool:
        """After a failure: whether the blob is there after all; else how far the registry got."""
        with self._send("HEAD", f"/{self._repository}/blobs/{self._digest}", 200, 404) as answer:
            if answer.status == 200:
                return True
        if self._location is None:
            return False
        with self._send("GET", self._location, 204, 200, 404, 400, 405) as answer:
            if answer.status in (200, 204):
                self._moved(answer, self._here())
                self._offset = min(_reached(answer), self._size)
            else:
                self._location, self._offset = None, 0
        return False

    def _call_off(self) -> None:
        """Let the registry drop what it has; it would do so by itself after days. Never hides the first failure."""
        if self._location is None or self._transport.scope.cancelled:
            return
        try:
            self._send("DELETE", self._location, *range(200, 500), attempts=1, timeout_s=5.0).close()
        except KnarrError:
            return

    def _here(self) -> Url:
        assert self._location is not None
        return self._location

    def _moved(self, answer: Answer, asked: Url) -> None:
        location = answer.headers.get("location")
        if location:
            self._location = self._transport.joined(self._endpoint, asked, location)
            if self._entry is not None:
                self._entry.note(self._location)
        elif self._location is None:
            raise RegistryError(f"{self._what}: the registry began an upload and did not say where")

    def _send(self, method: str, target: str | Url, *expect: int, **more: Any) -> Answer:
        request = Request(
            method,
            target,
            self._what,
            self._repository,
            auth.push(self._repository),
            frozenset(expect),
            **more,
        )
        return self._transport.send(self._endpoint, request)


def _may_pass(error: BaseException) -> bool:
    """Whether somebody may want to go on later: it was stopped, or a failure was temporary."""
    return not isinstance(error, KnarrError) or (isinstance(error, RegistryError) and error.temporary)


def _reached(answer: Answer) -> int:
    """How many bytes a registry has, by `Range: 0-<last>`; `0-0` also stands for none, so it counts as none.

    (distribution says 0-0 for an empty upload; a one-byte prefix is never left by us.)
    """
    last = answer.headers.get("range").removeprefix("bytes=").partition("-")[2]
    return int(last) + 1 if last.isascii() and last.isdigit() and last != "0" else 0
