"""The service `moby.buildkit.v1.Control`, which every client of buildkitd's calls.

Spec: BuildKit's api/services/control and control/control.go, 73ed682.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from knarr.buildkit.status import read
from knarr.errors import Cancelled, KnarrError
from knarr.pb import control_pb2 as pb

if TYPE_CHECKING:
    import grpc

    from knarr.buildkit.sessions import Sessions
    from knarr.daemon.builds import Build, Builds
    from knarr.daemon.cacheusage import CacheUsage
    from knarr.daemon.history import History
    from knarr.daemon.metrics import Metrics
    from knarr.daemon.solve import Solver
    from knarr.daemon.traces import Traces
    from knarr.daemon.worker import Worker

CONTROL = pb.DESCRIPTOR.services_by_name["Control"]
_STATUS_WAIT_S = 6.0  # a client asks for progress and for the build at the same time


class Control:
    """One method per call; see `buildkit.service`."""

    def __init__(
        self,
        builds: Builds,
        sessions: Sessions,
        solver: Solver,
        worker: Worker,
        usage: CacheUsage,
        history: History,
        metrics: Metrics,
        traces: Traces,
        *,
        after_build: Callable[[], object],
    ) -> None:
        self._builds = builds
        self._sessions = sessions
        self._solver = solver
        self._worker = worker
        self._usage = usage
        self._history = history
        self._metrics = metrics
        self._traces = traces
        self._after_build = after_build

    def info(self, request: pb.InfoRequest, context: grpc.ServicerContext) -> pb.InfoResponse:
        return pb.InfoResponse(buildkitVersion=self._worker.version())

    def list_workers(self, request: pb.ListWorkersRequest, context: grpc.ServicerContext) -> pb.ListWorkersResponse:
        return pb.ListWorkersResponse(record=self._worker.records(request.filter))

    def disk_usage(self, request: pb.DiskUsageRequest, context: grpc.ServicerContext) -> pb.DiskUsageResponse:
        return pb.DiskUsageResponse(record=self._usage.records(request.filter, unused_ns=request.ageLimit))

    def prune(self, request: pb.PruneRequest, context: grpc.ServicerContext) -> Iterator[pb.UsageRecord]:
        yield from self._usage.prune(request)

    def session(self, messages: Iterator[pb.BytesMessage], context: grpc.ServicerContext) -> Iterator[pb.BytesMessage]:
        pieces = (message.data for message in messages)
        for piece in self._sessions.attend(pieces, tuple(context.invocation_metadata()), hang_up=context.cancel):
            yield pb.BytesMessage(data=piece)

    def solve(self, request: pb.SolveRequest, context: grpc.ServicerContext) -> pb.SolveResponse:
        with self._builds.begin(request.Ref) as build:
            # A client that vanishes ends its call, and with it its build.
            if not context.add_callback(build.scope.cancel):
                build.scope.cancel()
            response = self._remembered(request, build, context)
        self._after_build()
        return pb.SolveResponse(ExporterResponse=response)

    def _remembered(self, request: pb.SolveRequest, build: Build, context: grpc.ServicerContext) -> dict[str, str]:
        """Solve, and note in the history what came of it."""
        if request.Internal:
            return self._solver.solve(request, build)
        self._history.begin(request)
        place = self._traces.begin(context, request.Ref)
        build.trace = self._traces.of_steps(place)
        begun_ns = time.time_ns()
        response: dict[str, str] = {}
        failure: BaseException | None = None
        try:
            response = self._solver.solve(request, build)
        except BaseException as error:
            failure = Cancelled() if build.scope.cancelled else error  # what fails when a client goes is no news
            raise
        finally:
            build.log.close()
            self._history.end(request.Ref, build.log, response, failure, build.images, build.provenance)
            outcome = "built" if failure is None else "cancelled" if isinstance(failure, Cancelled) else "failed"
            self._metrics.build(outcome, (time.time_ns() - begun_ns) / 1e9, build.log.counts())
            self._traces.end(place, request, begun_ns, build.log, str(failure or ""))
        return response

    def status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> Iterator[pb.StatusResponse]:
        # At once: clients of later versions read this header to see when the stream is there.
        context.send_initial_metadata(())
        ended = self._history.log(request.Ref)
        if ended is not None:
            yield from read(ended)
            return
        log = self._builds.log(request.Ref, wait_s=_STATUS_WAIT_S)
        if log is None:
            raise KnarrError(f"no such job {request.Ref}")
        yield from log.follow(until=lambda: not context.is_active())

    def listen_build_history(
        self, request: pb.BuildHistoryRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.BuildHistoryEvent]:
        context.send_initial_metadata(())
        yield from self._history.listen(request, until=lambda: not context.is_active())

    def update_build_history(
        self, request: pb.UpdateBuildHistoryRequest, context: grpc.ServicerContext
    ) -> pb.UpdateBuildHistoryResponse:
        if request.Delete:
            self._history.delete(request.Ref)
        elif not request.Finalize:  # there is nothing to finalise: a record is whole when its build has ended
            self._history.pin(request.Ref, pinned=request.Pinned)
        return pb.UpdateBuildHistoryResponse()
