"""The service LLBBridge: what a frontend asks over gRPC, answered by a `Gateway`.

One `Bridge` serves one frontend. It names results by ids of its own, waits with
the client's call for what the gateway does, ends that when the call ends, and
keeps what the frontend gives as its answer.

Spec: BuildKit's frontend/gateway/pb/gateway.proto and frontend/gateway/gateway.go at v0.33.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from knarr.buildkit import gatewayrecords as records
from knarr.buildkit.caps import FRONTEND_CAPS, LLB_CAPS, caps
from knarr.buildkit.failure import error_of
from knarr.buildkit.gatewayexec import Containers, serve_processes
from knarr.buildkit.policies import policies
from knarr.errors import Cancelled, KnarrError, UsageError
from knarr.frontend.gateway import ONLY, Answer, Left, Ref
from knarr.pb import gateway_pb2 as pb
from knarr.pb import worker_pb2
from knarr.scope import Scope
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    import grpc

    from knarr.frontend.gateway import Gateway
    from knarr.spec.platform import Platform

SERVICE = pb.DESCRIPTOR.services_by_name["LLBBridge"]


class Bridge:
    """LLBBridge for one frontend. `scope` is the frontend's: cancelling it ends all of its calls."""

    def __init__(
        self,
        gateway: Gateway,
        inputs: Mapping[str, bytes],
        platforms: tuple[Platform, ...],
        *,
        scope: Scope,
        worker: str = "knarr",
    ) -> None:
        self._gateway = gateway
        self._inputs = inputs
        self._platforms = platforms
        self._scope = scope
        self._worker = worker
        self._lock = threading.Lock()
        self._refs: dict[str, Ref] = {}
        self._answer: Answer | None = None
        self._failure: KnarrError | None = None
        self._left: dict[str, Left] = {}  # by failed steps
        self._containers = Containers(gateway, self._shown, scope)
        self.returned = threading.Event()  # set when there is an answer or a failure

    def close(self) -> None:
        """Release what the frontend has left, when it has ended."""
        self._containers.close()

    @property
    def answer(self) -> Answer | None:
        """What the frontend has given, None when it gave nothing.

        Raises:
            KnarrError: what the frontend says is wrong.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            return self._answer

    # --- what is there

    def ping(self, request: pb.PingRequest, context: grpc.ServicerContext) -> pb.PongResponse:
        worker = worker_pb2.WorkerRecord(ID=self._worker, platforms=map(records.to_platform, self._platforms))
        return pb.PongResponse(FrontendAPICaps=caps(FRONTEND_CAPS), LLBCaps=caps(LLB_CAPS), Workers=[worker])

    def inputs(self, request: pb.InputsRequest, context: grpc.ServicerContext) -> pb.InputsResponse:
        answer = pb.InputsResponse()
        for name, definition in self._inputs.items():
            answer.Definitions[name].ParseFromString(definition)
        return answer

    def resolve_image_config(
        self, request: pb.ResolveImageConfigRequest, context: grpc.ServicerContext
    ) -> pb.ResolveImageConfigResponse:
        if request.ResolverType:
            raise UsageError(f"{request.Ref}: images of an OCI layout of the session cannot be resolved")
        reference = records.governed(self._gateway, Reference.parse(request.Ref).tagged(), request)
        found = self._gateway.resolve_image(
            reference, records.platform_of(request, "Platform"), mode=request.ResolveMode
        )
        return pb.ResolveImageConfigResponse(Ref=str(found.reference), Digest=found.digest, Config=found.raw_config)

    def resolve_source_meta(
        self, request: pb.ResolveSourceMetaRequest, context: grpc.ServicerContext
    ) -> pb.ResolveSourceMetaResponse:
        question = records.question_of(request)
        asked, more = records.source_of(request.Source), policies(request.SourcePolicies)
        source = self._gateway.governed(asked, question.platform, more)
        return records.source_response(source, question, self._gateway.resolve_source(source, question))

    # --- results

    def solve(self, request: pb.SolveRequest, context: grpc.ServicerContext) -> pb.SolveResponse:
        for entry in request.CacheImports:
            self._gateway.import_cache(entry.Type, dict(entry.Attrs))
        with self._call(context) as scope:
            answer = self._solved(request, scope)
            if request.Evaluate:
                for ref in answer.refs.values():
                    self._gateway.evaluate(ref, scope=scope)
        ids = {name: self.name(ref) for name, ref in answer.refs.items()}
        response = records.solve_response(request, answer, ids, self.name)
        if request.Final:  # clients from before Return
            metadata = {**_exporter_attributes(request.ExporterAttr), **answer.metadata}
            self._finish(Answer(answer.refs, metadata, answer.attestations))
        return response

    def _solved(self, request: pb.SolveRequest, scope: Scope) -> Answer:
        if request.HasField("Definition") and getattr(request.Definition, "def"):
            if request.Frontend:
                raise UsageError("a solve has a definition or a frontend, not both")
            definition = request.Definition.SerializeToString(deterministic=True)
            return Answer({ONLY: self._gateway.solve(definition, policies(request.SourcePolicies))})
        if not request.Frontend:
            return Answer({ONLY: self._gateway.solve(b"")})
        inputs = {name: given.SerializeToString(deterministic=True) for name, given in request.FrontendInputs.items()}
        return self._gateway.ask(request.Frontend, dict(request.FrontendOpt), inputs, scope=scope)

    def evaluate(self, request: pb.EvaluateRequest, context: grpc.ServicerContext) -> pb.EvaluateResponse:
        ref = self._ref(request.Ref)
        with self._call(context) as scope:
            self._gateway.evaluate(ref, scope=scope)
        return pb.EvaluateResponse()

    def read_file(self, request: pb.ReadFileRequest, context: grpc.ServicerContext) -> pb.ReadFileResponse:
        ref = self._ref(request.Ref)
        offset, length = records.range_of(request)
        with self._call(context) as scope:
            data = self._gateway.read_file(ref, request.FilePath, offset=offset, length=length, scope=scope)
        return pb.ReadFileResponse(Data=data)

    def read_dir(self, request: pb.ReadDirRequest, context: grpc.ServicerContext) -> pb.ReadDirResponse:
        ref = self._ref(request.Ref)
        with self._call(context) as scope:
            found = self._gateway.list_directory(ref, request.DirPath, pattern=request.IncludePattern, scope=scope)
        return pb.ReadDirResponse(entries=map(records.to_stat, found))

    def stat_file(self, request: pb.StatFileRequest, context: grpc.ServicerContext) -> pb.StatFileResponse:
        ref = self._ref(request.Ref)
        with self._call(context) as scope:
            found = self._gateway.stat(ref, request.Path, scope=scope)
        return pb.StatFileResponse(stat=records.to_stat(found))

    # --- what the frontend says

    def warn(self, request: pb.WarnRequest, context: grpc.ServicerContext) -> pb.WarnResponse:
        self._gateway.warn(records.warning(request))
        return pb.WarnResponse()

    def return_(self, request: pb.ReturnRequest, context: grpc.ServicerContext) -> pb.ReturnResponse:
        if request.HasField("error"):
            self._finish(error_of(request.error))
        else:
            refs = {name: self._returned(id) for name, id in records.ids_of(request.result).items()}
            said = records.attestations_of(request.result, self._ref)
            self._finish(Answer(refs, dict(request.result.metadata), said))
        return pb.ReturnResponse()

    def _returned(self, id: str) -> Ref:
        return self._ref(id) if id else self._gateway.solve(b"")

    def _finish(self, outcome: Answer | KnarrError) -> None:
        with self._lock:
            if self._answer is not None or self._failure is not None:
                raise UsageError("the frontend has given its answer already")
            if isinstance(outcome, Answer):
                self._answer = outcome
            else:
                self._failure = outcome
        self.returned.set()

    # --- containers

    def new_container(self, request: pb.NewContainerRequest, context: grpc.ServicerContext) -> pb.NewContainerResponse:
        self._containers.make(request)
        return pb.NewContainerResponse()

    def release_container(
        self, request: pb.ReleaseContainerRequest, context: grpc.ServicerContext
    ) -> pb.ReleaseContainerResponse:
        self._containers.release(request.ContainerID)
        return pb.ReleaseContainerResponse()

    def exec_process(
        self, requests: Iterator[pb.ExecMessage], context: grpc.ServicerContext
    ) -> Iterator[pb.ExecMessage]:
        with self._call(context) as scope:
            yield from serve_processes(self._containers, requests, scope)

    def read_file_container(self, request: pb.ReadFileRequest, context: grpc.ServicerContext) -> pb.ReadFileResponse:
        offset, length = records.range_of(request)
        container = self._containers.get(request.Ref)
        data = container.read_file(request.MountIndex, request.FilePath, offset=offset, length=length)
        return pb.ReadFileResponse(Data=data)

    def read_dir_container(self, request: pb.ReadDirRequest, context: grpc.ServicerContext) -> pb.ReadDirResponse:
        container = self._containers.get(request.Ref)
        found = container.list_directory(request.MountIndex, request.DirPath, pattern=request.IncludePattern)
        return pb.ReadDirResponse(entries=map(records.to_stat, found))

    def stat_file_container(self, request: pb.StatFileRequest, context: grpc.ServicerContext) -> pb.StatFileResponse:
        found = self._containers.get(request.Ref).stat(request.MountIndex, request.Path)
        return pb.StatFileResponse(stat=records.to_stat(found))

    # --- names and calls

    def name(self, ref: Ref) -> str:
        """An id for `ref`; scratch has none."""
        if ref.graph.root is None:
            return ""
        id = os.urandom(12).hex()
        with self._lock:
            self._refs[id] = ref
        return id

    def _shown(self, id: str) -> Ref | Left:
        """What a container is to show: a result, or what a failed step has left."""
        return self._left.get(id) or self._ref(id)

    def _note_remains(self, error: KnarrError) -> None:
        """Let containers show what a failed step has left, by the names that its error tells."""
        left = error.remains
        if left is not None:
            self._left.update((tree, Left(tree)) for tree in (*left.inputs, *left.outputs) if tree)

    def _ref(self, id: str) -> Ref:
        with self._lock:
            found = self._refs.get(id)
        if found is None:
            raise UsageError(f"no such ref: {id}" if id else "an empty result has no files")
        return found

    @contextmanager
    def _call(self, context: grpc.ServicerContext) -> Iterator[Scope]:
        """The scope of one call: cancelled when the client goes away, or the frontend as a whole is cancelled."""
        with Scope() as scope, self._scope.on_cancel(scope.cancel):
            if not context.add_callback(scope.cancel):
                raise Cancelled
            try:
                yield scope
            except KnarrError as error:
                self._note_remains(error)
                raise


def _exporter_attributes(raw: bytes) -> dict[str, bytes]:
    try:
        data: Any = json.loads(raw or b"{}")
        return {str(key): base64.b64decode(value) for key, value in data.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"the attributes of the exporter are not what they should be: {error}") from error
