"""`Builder` by way of a buildkitd: the same face as `engine.Engine`, the work done elsewhere.

The Dockerfile is compiled by the builder's own frontend, which we drive through its
gateway as buildctl does (docs/decisions/0014-frontend-at-the-builder.md): a
`# syntax=` line runs there, base images are resolved where they are pulled, and
questions about a Dockerfile get their answers by the same way.

    RemoteBuilder(read_address("tcp://10.0.0.7:1234"), tls, place, open_store).solve(request, session, sink)
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from knarr.builder import SolveResult
from knarr.buildkit.content import CONTENT
from knarr.buildkit.filesend import FILE_SEND
from knarr.buildkit.filesync import FILE_SYNC
from knarr.buildkit.lent import SECRETS
from knarr.buildkit.policies import to_message
from knarr.buildkit.sshforward import SSH
from knarr.buildkit.tokens import AUTH
from knarr.client import frontend
from knarr.client.asked import Asked
from knarr.client.connection import Builder, connected
from knarr.client.contents import Contents, LentStore
from knarr.client.lending import lent
from knarr.client.logins import Logins
from knarr.client.outputs import Outputs
from knarr.client.services import Agents, Files, Secrets
from knarr.client.watching import Watcher
from knarr.errors import Cancelled, KnarrError, StepFailed, Unsupported
from knarr.owner import owned_directory
from knarr.pb import control_pb2 as pb
from knarr.progress import Warned
from knarr.scope import TICK_S, Outcome, Scope
from knarr.session.lending import Lending
from knarr.session.session import (
    LendsContent,
    OnDisk,
    Session,
    Wanted,
)
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.builder import SolveRequest
    from knarr.client.address import Address
    from knarr.client.logins import TokenSource
    from knarr.client.tls import Tls
    from knarr.content.store import Store
    from knarr.frontend.request import FrontendRequest
    from knarr.progress import Sink
    from knarr.spec.platform import Platform

_LAST_WORDS_S = 5.0  # for progress that is still on its way when the build has ended: BuildKit's
_LAYOUT = "oci-layout://"


class RemoteBuilder:
    """Implements `builder.Builder`."""

    def __init__(
        self,
        address: Address,
        tls: Tls,
        place: Path,
        store: Callable[[], Store],
        *,
        tokens: TokenSource | None = None,
        prefix: str = "",
    ) -> None:
        """Directories of ours are made below `place`; `store` opens the own store, for images that are loaded.

        `tokens` fetches tokens from registries' token servers, so that the builder
        sees no password. `prefix` goes before the names of steps.
        """
        self._address = address
        self._tls = tls
        self._place = place
        self._store = store
        self._tokens = tokens
        self._prefix = prefix

    def solve(self, request: SolveRequest, session: Session, sink: Sink, *, scope: Scope | None = None) -> SolveResult:
        """Build and export. Cancelling `scope` stops it, there as well.

        Raises:
            KnarrError: the builder cannot be reached, or the build failed.
            Cancelled: the caller gave up.
        """
        with self._build(request, session, sink, scope or Scope()) as build:
            response = build.run("")[0]
            build.asked.finish(response)
        return _result(response)

    def platforms(self) -> tuple[Platform, ...]:
        """What it says that it builds for, its own platform first.

        Raises:
            KnarrError: it cannot be reached.
        """
        with owned_directory(self._place) as place, connected(self._address, self._tls, place) as builder:
            return builder.platforms

    def ask(
        self, request: SolveRequest, session: Session, sink: Sink, question: str, *, scope: Scope | None = None
    ) -> Mapping[str, bytes]:
        """The answer of the builder's frontend to a question about the Dockerfile, such as `frontend.lint`.

        Raises:
            KnarrError: it knows no such question, or the Dockerfile cannot be read.
        """
        with self._build(request, session, sink, scope or Scope()) as build:
            return build.run(question)[1]

    @contextmanager
    def _build(self, request: SolveRequest, session: Session, sink: Sink, scope: Scope) -> Iterator[_Build]:
        with (
            owned_directory(self._place) as place,
            connected(self._address, self._tls, place, scope=scope) as builder,
        ):
            _check(request, builder)
            asked = Asked(self._store).add(request, for_knarr=builder.is_knarr)
            for text in asked.skipped:
                sink.send(Warned("shared cache", text))
            dockerfile = _written(request.frontend, place)
            lending = Lending(session, "dockerfile", dockerfile) if dockerfile else session
            outputs = Outputs(asked.outputs, place, scope)
            with Scope() as threads, scope.on_cancel(threads.cancel):
                services: dict[Any, object] = {
                    FILE_SYNC: Files(lending, threads),
                    FILE_SEND: outputs,
                    SECRETS: Secrets(session),
                    SSH: Agents(session, threads),
                    AUTH: Logins(session, self._tokens),
                }
                stores = {**asked.stores, **_layouts(request.frontend, session)}
                if stores:
                    services[CONTENT] = Contents(stores)
                key = _shared_key(session)
                with lent(builder.control, services, place, shared_key=key, scope=threads) as id:
                    yield _Build(builder, request, id, asked, outputs, Watcher(sink, prefix=self._prefix), threads)


class _Build:
    """One build under way."""

    def __init__(
        self,
        builder: Builder,
        request: SolveRequest,
        session: str,
        asked: Asked,
        outputs: Outputs,
        watcher: Watcher,
        scope: Scope,
    ) -> None:
        self._builder = builder
        self._request = request
        self._session = session
        self.asked = asked
        self._outputs = outputs
        self._watcher = watcher
        self._scope = scope
        self._ref = os.urandom(16).hex()

    def run(self, question: str) -> tuple[Mapping[str, str], Mapping[str, bytes]]:
        """Have it done: what the exporters tell, and what the frontend does."""
        options = frontend.options(self._request, self.asked.caches, question)
        message = self._message(options, question)
        solving = self._builder.control.begin("Solve", message)
        told = self._builder.control.stream("Status", pb.StatusRequest(Ref=self._ref))
        watching = self._scope.attempt(self._watch, told)
        with self._scope.on_cancel(solving.cancel), self._scope.on_cancel(told.cancel):
            try:
                said = frontend.drive(self._builder, self._ref, options, self._needed(), solving, self._scope)
                response = solving.result().ExporterResponse
            except (grpc.RpcError, grpc.FutureCancelledError, KnarrError) as error:
                self._hear_out(watching, told)
                raise self._failure(error) from None
            self._hear_out(watching, told)
        return dict(response), said

    def _message(self, options: Mapping[str, str], question: str) -> pb.SolveRequest:
        exporters = [] if question else self.asked.exporters
        first = exporters[0] if exporters else pb.Exporter()
        return pb.SolveRequest(
            Ref=self._ref,
            Session=self._session,
            FrontendAttrs=options,
            Exporters=exporters,
            ExporterDeprecated=first.Type,  # for builders from before several exporters
            ExporterAttrsDeprecated=first.Attrs,
            Cache=pb.CacheOptions() if question else self.asked.caches,
            Entitlements=self._request.allow,
            Internal=bool(question),
            SourcePolicy=to_message(self._request.source_policies) if self._request.source_policies else None,
        )

    def _needed(self) -> Mapping[str, str]:
        """The capabilities that this build needs, and for what."""
        needed = {}
        if len(self.asked.exporters) > 1:
            needed["exporter.multiple"] = "several outputs of one build"
        if any(key.startswith("annotation") for export in self._request.exports for key in export.attrs):
            needed["exporter.image.annotations"] = "annotations"
        if _layout_ids(self._request.frontend):
            needed["source.ocilayout"] = "OCI layouts as contexts"
        if self._request.frontend.build_args.get("SOURCE_DATE_EPOCH") or self._request.frontend.source_date_epoch:
            needed["exporter.sourcedateepoch"] = "SOURCE_DATE_EPOCH"
        if self._request.frontend.resources is not None:
            needed["exec.meta.linux.resources"] = "limits of steps"
        if self._request.attest:
            needed["exporter.image.attestations"] = "attestations"
        return needed

    def _watch(self, call: Any) -> None:
        try:
            for response in call:
                self._watcher.take(response)
        except grpc.RpcError:
            return  # who waits for the build is told why

    def _hear_out(self, watching: Outcome[None], call: Any) -> None:
        """Wait for the progress that is still on its way."""
        waited = 0.0
        while not watching.done() and waited < _LAST_WORDS_S and not self._scope.cancelled:
            watching.wait(TICK_S)
            waited += TICK_S
        call.cancel()

    def _failure(self, error: BaseException) -> BaseException:
        """Why the build failed, as a person is told of it."""
        if self._scope.cancelled:
            return Cancelled()
        if self._outputs.failure is not None:
            return self._outputs.failure
        if isinstance(error, grpc.RpcError):
            told: Any = error
            if told.code() is grpc.StatusCode.UNAVAILABLE:
                return KnarrError(
                    f"builder {self._builder.address} went away in the middle of the build",
                    hint="see its log; when it is back, the build begins again where it was",
                )
            error = self._builder.explained(error)
        if not isinstance(error, KnarrError):
            return error if isinstance(error, Cancelled) else Cancelled()
        return self._with_step(error)

    def _with_step(self, error: KnarrError) -> KnarrError:
        """With what the failed step wrote last, and the Dockerfile called as its user does."""
        from knarr.record import replace

        name, output = self._watcher.failed_step()
        if name and output and " did not complete successfully" in error.message:
            failed = StepFailed(error.message, step=name, status=1, output=output, hint=error.hint)
            failed.with_context(span=error.span, excerpt=error.excerpt)
            error = failed
        own = self._request.frontend.filename
        if error.span is not None and error.span.file == own.rpartition("/")[2]:
            error.span = replace(error.span, file=own)
        return error


def _check(request: SolveRequest, builder: Builder) -> None:
    """What only an engine of our own can do is refused by name."""
    limits = request.frontend.resources
    if limits is not None and limits.pids and not builder.is_knarr:
        raise Unsupported("--resource pids: BuildKit does not limit how many processes a step has", hint="leave it out")
    if request.frontend.resolve_mode == "never":
        raise Unsupported("--pull=never: a builder elsewhere cannot be kept from its registries", hint="leave it out")


def _shared_key(session: Session) -> str:
    """Equal for builds of one directory of this machine."""
    try:
        where = os.path.realpath(session.files(Wanted("context")))
    except KnarrError:
        where = ""
    return hashlib.sha256(f"{os.uname().nodename}:{os.getuid()}:{where}".encode(errors="surrogateescape")).hexdigest()


def _written(request: FrontendRequest, place: Path) -> Path | None:
    """The directory of the Dockerfile, as it is lent; None: it lies in the remote context."""
    if not request.dockerfile and request.contexts.get("context"):
        return None
    directory = place / "dockerfile"
    directory.mkdir()
    name = request.filename.rpartition("/")[2]
    (directory / name).write_bytes(request.dockerfile)
    # Always there, so that the builder does not look for one of the context's: which it is was decided here.
    (directory / f"{name}.dockerignore").write_bytes(request.dockerignore or b"")
    return directory


def _layout_ids(request: FrontendRequest) -> list[str]:
    """The ids under which OCI layouts are lent."""
    wheres = [where for where in request.contexts.values() if where.startswith(_LAYOUT)]
    return [where.removeprefix(_LAYOUT).partition("@")[0] for where in wheres]


def _layouts(request: FrontendRequest, session: Session) -> Mapping[str, LentStore]:
    found: dict[str, LentStore] = {}
    for id in _layout_ids(request):
        content = session.content(id) if isinstance(session, LendsContent) else None
        if isinstance(content, OnDisk):
            found[f"oci:{id}"] = LentStore(content.root)
    return found


def _result(response: Mapping[str, str]) -> SolveResult:
    digest = response.get("containerimage.digest")
    config = response.get("containerimage.config.digest")
    return SolveResult(
        Digest.parse(digest) if digest else None,
        Digest.parse(config) if config else None,
        {key: _document(text) for key, text in response.items() if key != "cache.manifest"},
    )


def _document(text: str) -> Any:
    """A value as exporters tell it: JSON in base64, or text."""
    try:
        found = json.loads(base64.b64decode(text, validate=True))
    except ValueError:
        return text
    return found if isinstance(found, dict | list) else text
