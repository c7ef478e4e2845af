"""The builds that were: who asked for what, how it ended, what it said; told to clients as they are and as they change.

Below the history's directory each build has a record (BuildKit's message), and a
blob with its log. Both go when they are too old or too many, unless somebody has
pinned the build. A crash loses the record of builds that were under way, nothing
else: a record is written when its build has ended, and appears whole.

Spec: BuildKit's solver/llbsolver/history, 73ed682.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from knarr.attest.statement import PREDICATE_TYPE, SLSA_1
from knarr.buildkit.failure import status_of
from knarr.buildkit.status import MEDIA_TYPE, StatusLog
from knarr.daemon.historyfilter import chosen
from knarr.daemon.settings import HistorySettings
from knarr.errors import NotFound
from knarr.pb import control_pb2 as pb
from knarr.pb.status_pb2 import Status
from knarr.scope import TICK_S
from knarr.spec.descriptor import Descriptor
from knarr.spec.mediatype import IN_TOTO
from knarr.streams import CHUNK
from knarr.trace.stub import MEDIA_TYPE as TRACE

STARTED, COMPLETE, DELETED = (getattr(pb.BuildHistoryEventType, name) for name in ("STARTED", "COMPLETE", "DELETED"))


_STATUS = "application/vnd.googeapis.google.rpc.status+proto"  # BuildKit's spelling


class History:
    """The history of one state directory. Safe from several threads."""

    def __init__(self, root: Path, settings: HistorySettings) -> None:
        self._records = root / "records"
        self.blobs = root / "blobs" / "sha256"
        self._settings = settings
        self._lock = threading.Lock()
        self._active: dict[str, pb.BuildHistoryRecord] = {}
        self._listeners: list[SimpleQueue[pb.BuildHistoryEvent]] = []
        for directory in (self._records, self.blobs):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._forget_old()

    def begin(self, request: pb.SolveRequest) -> None:
        """Note a build that is under way."""
        record = pb.BuildHistoryRecord(
            Ref=request.Ref,
            Frontend=request.Frontend,
            FrontendAttrs=request.FrontendAttrs,
            Exporters=request.Exporters,
            CreatedAt=_now(),
        )
        with self._lock:
            self._active[request.Ref] = record
            self._tell(STARTED, record)

    def end(
        self,
        ref: str,
        log: StatusLog,
        response: Mapping[str, str],
        error: BaseException | None,
        images: Mapping[int, Descriptor],
        provenance: Mapping[str, bytes],
    ) -> None:
        """Note how it ended. The log has been closed.

        `images` are what its outputs made, by their numbers; `provenance` are predicates by
        the platform that they are about, "" for the only one.
        """
        with self._lock:
            record = self._active[ref]
        counts = log.counts()
        record.CompletedAt.CopyFrom(_now())
        record.numTotalSteps, record.numCompletedSteps = counts.total, counts.completed
        record.numCachedSteps, record.numWarnings = counts.cached, counts.warnings
        record.logs.CopyFrom(self._keep(log.path))
        record.ExporterResponse.update(response)
        for number, image in images.items():
            made = pb.Descriptor(media_type=image.media_type, digest=str(image.digest), size=image.size)
            record.Result.Results[number].CopyFrom(made)
        if images:
            record.Result.ResultDeprecated.CopyFrom(record.Result.Results[min(images)])
        for platform, predicate in provenance.items():
            result = record.Results[platform] if platform else record.Result
            result.Attestations.append(self._attest(predicate))
        if error is not None:
            self._keep_error(record, status_of(error))
        with self._lock:
            del self._active[ref]
            self._write(record)
            self._tell(COMPLETE, record)
        self._forget_old()

    def listen(self, request: pb.BuildHistoryRequest, *, until: Callable[[], bool]) -> Iterator[pb.BuildHistoryEvent]:
        """The builds that `request` asks for; then, unless it wants no more, what becomes of them.

        Raises:
            UsageError: a filter that cannot be read.
        """
        queue: SimpleQueue[pb.BuildHistoryEvent] = SimpleQueue()
        with self._lock:
            self._listeners.append(queue)
            active = [self._event(STARTED, record) for record in self._active.values()]
        try:
            yield from (event for event in active if request.Ref in ("", event.record.Ref))
            if not request.ActiveOnly:
                yield from self._ended(request)
            while not request.EarlyExit and not until():
                with contextlib.suppress(Empty):
                    event = queue.get(timeout=TICK_S)
                    if request.Ref in ("", event.record.Ref):
                        yield event
        finally:
            with self._lock:
                self._listeners.remove(queue)

    def _ended(self, request: pb.BuildHistoryRequest) -> list[pb.BuildHistoryEvent]:
        records = [record for record in self._all() if request.Ref in ("", record.Ref)]
        wanted = chosen(records, request.Filter, request.Limit, now_s=time.time())
        return [self._event(COMPLETE, record) for record in wanted]

    def pin(self, ref: str, *, pinned: bool) -> None:
        """Keep a build for good, or no longer.

        Raises:
            NotFound: there is none of this name.
        """
        with self._lock:
            record = self._read(ref)
            record.pinned = pinned
            record.Generation += 1
            self._write(record)
            self._tell(COMPLETE, record)

    def put_trace(self, ref: str, trace: bytes) -> None:
        """Keep the trace of a build that has ended, instead of what was kept of it before."""
        digest = hashlib.sha256(trace).hexdigest()
        with self._lock:
            try:
                record = self._read(ref)
            except NotFound:
                return  # it was deleted, or never kept
            before = record.trace.digest
            write_new(self.blobs / digest, trace)
            record.trace.CopyFrom(pb.Descriptor(media_type=TRACE, digest=f"sha256:{digest}", size=len(trace)))
            record.Generation += 1
            self._write(record)
            self._tell(COMPLETE, record)
            if before and before != record.trace.digest:
                self._drop(before)

    def delete(self, ref: str) -> None:
        """Forget a build that has ended.

        Raises:
            NotFound: there is none of this name.
        """
        with self._lock:
            self._remove(self._read(ref))

    def log(self, ref: str) -> Path | None:
        """The file with what a build has told, None when it is not known."""
        with self._lock:
            try:
                record = self._read(ref)
            except NotFound:
                return None
        return self.blobs / record.logs.digest.partition(":")[2]

    # --- on disk

    def _path(self, ref: str) -> Path:
        return self._records / hashlib.sha256(ref.encode()).hexdigest()

    def _read(self, ref: str) -> pb.BuildHistoryRecord:
        try:
            return pb.BuildHistoryRecord.FromString(self._path(ref).read_bytes())
        except (FileNotFoundError, DecodeError):
            raise NotFound(f"there is no build {ref} in the history") from None

    def _all(self) -> list[pb.BuildHistoryRecord]:
        found = []
        for path in self._records.iterdir():
            with contextlib.suppress(FileNotFoundError, DecodeError):
                if "." not in path.name:
                    found.append(pb.BuildHistoryRecord.FromString(path.read_bytes()))
        return sorted(found, key=_age)

    def _write(self, record: pb.BuildHistoryRecord) -> None:
        write_new(self._path(record.Ref), record.SerializeToString())

    def _keep(self, log: Path) -> pb.Descriptor:
        """The log as a blob. It stays where it is as well: the build's own clients may still be reading it."""
        digest = hashlib.sha256()
        size = 0
        with log.open("rb") as file:
            while data := file.read(CHUNK):
                digest.update(data)
                size += len(data)
        with contextlib.suppress(FileExistsError):
            os.link(log, self.blobs / digest.hexdigest())
        return pb.Descriptor(media_type=MEDIA_TYPE, digest=f"sha256:{digest.hexdigest()}", size=size)

    def _keep_error(self, record: pb.BuildHistoryRecord, status: Status) -> None:
        """The failure: what it says in the record, and all that is known of it as a blob."""
        whole = status.SerializeToString()
        digest = hashlib.sha256(whole).hexdigest()
        write_new(self.blobs / digest, whole)
        record.error.code, record.error.message = status.code, status.message
        record.externalError.CopyFrom(pb.Descriptor(media_type=_STATUS, digest=f"sha256:{digest}", size=len(whole)))

    def _attest(self, predicate: bytes) -> pb.Descriptor:
        """A predicate of provenance as a blob."""
        digest = hashlib.sha256(predicate).hexdigest()
        write_new(self.blobs / digest, predicate)
        return pb.Descriptor(
            media_type=IN_TOTO,
            digest=f"sha256:{digest}",
            size=len(predicate),
            annotations={PREDICATE_TYPE: SLSA_1},
        )

    def _forget_old(self) -> None:
        with self._lock:
            known = self._all()
            loose = [record for record in known if not record.pinned]
            oldest_s = time.time() - self._settings.max_age_s
            surplus = len(loose) - self._settings.max_entries
            for number, record in enumerate(loose):
                if number < surplus or record.CompletedAt.seconds < oldest_s:
                    self._remove(record)

    def _remove(self, record: pb.BuildHistoryRecord) -> None:
        self._path(record.Ref).unlink(missing_ok=True)
        others = self._all()
        kept = {digest for other in others for digest in _blobs(other)}
        for digest in _blobs(record):
            if digest and digest not in kept:
                self._drop(digest)
        if record.trace.digest:
            self._drop(record.trace.digest)
        self._tell(DELETED, pb.BuildHistoryRecord(Ref=record.Ref))

    def _drop(self, digest: str) -> None:
        (self.blobs / digest.partition(":")[2]).unlink(missing_ok=True)

    # --- told

    def _event(self, kind: int, record: pb.BuildHistoryRecord) -> pb.BuildHistoryEvent:
        event = pb.BuildHistoryEvent(record=record)
        event.type = kind  # type: ignore[assignment]  # the stub wants the enum, which is a number
        return event

    def _tell(self, kind: int, record: pb.BuildHistoryRecord) -> None:
        for queue in self._listeners:
            queue.put(self._event(kind, record))


def write_new(path: Path, data: bytes) -> None:
    """Put `data` at `path`: all of it or nothing."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    os.replace(fresh, path)


def _blobs(record: pb.BuildHistoryRecord) -> list[str]:
    """The digests of what is kept of it: its log, its failure, the attestations of all its results."""
    said = [one.digest for result in (record.Result, *record.Results.values()) for one in result.Attestations]
    return [record.logs.digest, record.externalError.digest, *said]


def _now() -> Timestamp:
    ns = time.time_ns()
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9)


def _age(record: pb.BuildHistoryRecord) -> tuple[int, int]:
    return (record.CreatedAt.seconds, record.CreatedAt.nanos)
