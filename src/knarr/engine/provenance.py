"""Provenance of a build: what its results were made of and how, gathered from what the build has done.

`make` is the maker that `attesting` knows: for each platform it looks at the graph of
the result, at the sources' pins, and at who was asked for it; the text itself is
`attest.provenance`'s.

Spec: BuildKit's solver/llbsolver/provenance.go and proc/provenance.go at v0.33.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from knarr.attest.capture import BlobUsed, Capture, FileUsed, ImageUsed, RepositoryUsed, of_platform
from knarr.attest.provenance import DOCKERFILE, Facts, Request, predicate, told_request
from knarr.attest.statement import SLSA_02, SLSA_1, Attestation
from knarr.attest.wanted import PROVENANCE, ProvenanceOptions, provenance_options
from knarr.export.clock import rfc3339
from knarr.llb.ops import BuildOp, Edge, ExecOp, Graph, MountType, NetMode, SourceOp, SourceText
from knarr.record import replace
from knarr.spec import gojson
from knarr.spec.digest import Digest
from knarr.spec.platform import host_platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.attest.llbjson import Text
    from knarr.engine.asked import Asked
    from knarr.engine.attesting import Solved
    from knarr.engine.job import Job
    from knarr.frontend.request import PlatformResult

DOCKERFILE_VERSION = "1.26.0"  # of the Dockerfile frontend whose rules are followed
_IMAGE, _LAYOUT, _LOCAL = "docker-image://", "oci-layout://", "local://"
_BLOBS = ("docker-image+blob://", "oci-layout+blob://")


def make(solved: Solved, attrs: Mapping[str, str]) -> list[tuple[Attestation, ...]]:
    """The provenance of each platform's result; an empty result has none.

    Raises:
        UsageError: an option that cannot be meant.
        KnarrError: something was used that cannot be told, and `complete-materials` asks for all.
    """
    options = provenance_options(attrs)
    finished = _Once()
    made: list[tuple[Attestation, ...]] = []
    for result in solved.frontend.results:
        if result.graph.root is None:
            made.append(())
            continue
        facts = facts_of(solved, result)
        predicate(facts, options)  # what is wrong about it is told now, and not by an exporter
        made.append((_promise(solved, result, facts, options, finished),))
    return made


def _promise(
    solved: Solved, result: PlatformResult, facts: Facts, options: ProvenanceOptions, finished: _Once
) -> Attestation:
    def text() -> bytes:
        told = replace(facts, finished=finished.time())
        if options.mode == "max":
            told = with_graph(told, solved.job, result.graph)
        return gojson.dump(predicate(told, options))

    kind = SLSA_1 if options.version == "v1" else SLSA_02
    return Attestation(kind, options.filename, text, inline_only=options.inline_only, reason=PROVENANCE)


class _Once:
    """The time at which it is first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text = ""

    def time(self) -> str:
        with self._lock:
            self._text = self._text or rfc3339(time.time_ns())
            return self._text


def facts_of(solved: Solved, result: PlatformResult) -> Facts:
    """What there is to tell of one platform's result, but for its end, its graph and its layers."""
    job = solved.job
    capture = captured(job, result.graph)
    asked = _asked(solved, result.graph.root)
    if asked is None:
        request, root = solved.request, None
        images: Iterable[ImageUsed] = _resolved(job)
        if "context" not in request.options:
            capture.directories |= {"context", "dockerfile"}
    else:
        request, root = asked.request if asked.above is not None else Request(), asked.root
        images = asked.images()
        mine = {found.graph.root for found in solved.frontend.results}
        for graph in asked.graphs():
            if graph.root not in mine:
                capture.merge(captured(job, graph))
    if solved.frontend.multi_platform:
        images = of_platform(images, result.platform, [found.platform for found in solved.frontend.results])
    for image in images:
        capture.add_image(image)
    capture.settle()
    return Facts(
        request,
        capture,
        str(host_platform()),
        job.nonce,
        rfc3339(job.started_ns),
        "",
        root if asked is not None and asked.above is not None else None,
        DOCKERFILE_VERSION if request.frontend == DOCKERFILE else "",
        environment=solved.environment,
        compatibility=solved.compatibility,
        repository=_repository,
        is_repeatable=result.epoch is not None,
    )


def _asked(solved: Solved, root: Edge | None) -> Asked | None:
    """The question that the result is the answer to; None where the engine compiled it by itself."""
    if root is None or not solved.job.has_gateway:
        return None
    top = solved.job.gateway.asked
    top.request = solved.request
    return top.who_gave(root)


def _resolved(job: Job) -> list[ImageUsed]:
    return [
        ImageUsed(found.reference.tagged(), platform, found.digest, is_lent)
        for platform, found, is_lent in job.images.found()
    ]


def _repository(text: str) -> tuple[str, str] | None:
    """The URL of a repository with the part that is meant, and without a subdirectory."""
    from knarr.errors import KnarrError
    from knarr.frontend.dockerfile.giturl import parse_git_url

    try:
        url = parse_git_url(text, as_context=True)
    except KnarrError:
        return None
    if url is None:
        return None
    subdir = url.subdir.strip("/")
    plain = url.remote + (f"#{url.ref}" if url.ref else "")
    return (f"{url.remote}#{url.ref}:{subdir}" if subdir else plain), plain


def told_in_metadata(solved: Solved, *, whole: bool) -> dict[str, Any]:
    """What `--metadata-file` tells of provenance, as buildx does: in version 0.2, and only the least unless `whole`."""
    from knarr.attest.provenance import min_v02

    options = ProvenanceOptions(mode="max")
    finished = rfc3339(time.time_ns())
    found: dict[str, Any] = {}
    for result in solved.frontend.results:
        if result.graph.root is None:
            continue
        facts = replace(facts_of(solved, result), finished=finished)
        if whole:
            facts = with_graph(facts, solved.job, result.graph)
        key = "buildx.build.provenance" + (f"/{result.platform}" if solved.frontend.multi_platform else "")
        found[key] = min_v02(predicate(facts, options), options.version, whole=whole)
    return found


def told_in_history(solved: Solved, builder_id: str) -> dict[str, bytes]:
    """The whole provenance of each platform's result, by its id; "" where the result is the only one."""
    options = ProvenanceOptions(mode="max", builder_id=builder_id)
    finished = rfc3339(time.time_ns())
    found = {}
    for result in solved.frontend.results:
        if result.graph.root is not None:
            facts = with_graph(replace(facts_of(solved, result), finished=finished), solved.job, result.graph)
            id = str(result.platform) if solved.frontend.multi_platform else ""
            found[id] = gojson.dump(predicate(facts, options), indent=2)
    return found


def told(job: Job, request: Request, graph: Graph) -> dict[str, Any]:
    """The question that led to `graph`, as it is told of a frontend's input."""
    return told_request(request, captured(job, graph), _repository)


# --- what was used


def captured(job: Job, graph: Graph) -> Capture:
    """What the steps of a graph used."""
    capture = Capture()
    for digest, vertex in graph.vertices.items():
        op = vertex.op
        if isinstance(op, SourceOp):
            _capture_source(capture, op, vertex.platform, job.pins.get(digest, ""))
        elif isinstance(op, ExecOp):
            _capture_exec(capture, op)
        elif isinstance(op, BuildOp):
            capture.incomplete = True
    return capture


def _capture_source(capture: Capture, op: SourceOp, platform: Any, pin: str) -> None:
    identifier = op.identifier
    if identifier.startswith(_LOCAL):
        capture.directories.add(identifier.removeprefix(_LOCAL))
    elif not pin:
        capture.incomplete = True  # nobody had to look what it is now
    elif identifier.startswith((_IMAGE, _LAYOUT)):
        name = Reference.parse(identifier.partition("://")[2])
        capture.add_image(
            ImageUsed(name, platform or host_platform(), Digest.parse(pin), identifier.startswith(_LAYOUT))
        )
    elif identifier.startswith(_BLOBS):
        name = Reference.parse(identifier.partition("://")[2])
        capture.add_blob(BlobUsed(name, Digest.parse(pin), identifier.startswith(_BLOBS[1])))
    elif identifier.startswith("git://"):
        _capture_git(capture, op, pin)
    else:
        capture.add_file(FileUsed(identifier, Digest.parse(pin)))


def _capture_git(capture: Capture, op: SourceOp, pin: str) -> None:
    from knarr.ops.source_git import parse

    source = parse(op)
    capture.add_repository(RepositoryUsed(source.remote + (f"#{source.ref}" if source.ref else ""), pin))
    for id in (source.token_secret, source.header_secret):
        if id:
            capture.add_secret(id, optional=True)
    if source.ssh_agent:
        capture.add_agent(source.ssh_agent, optional=True)


def _capture_exec(capture: Capture, op: ExecOp) -> None:
    for mount in op.mounts:
        if mount.type is MountType.SECRET and mount.secret is not None:
            capture.add_secret(mount.secret.id, optional=mount.secret.optional)
        elif mount.type is MountType.SSH and mount.ssh is not None:
            capture.add_agent(mount.ssh.id, optional=mount.ssh.optional)
    for secret in op.secret_env:
        capture.add_secret(secret.id, optional=secret.optional)
    if op.network is not NetMode.NONE:
        capture.network = True


# --- the graph


def with_graph(facts: Facts, job: Job, graph: Graph) -> Facts:
    """The facts with what `mode=max` tells: steps, texts, and the layers of the steps that have some."""
    from knarr.attest.llbjson import Text, build_config, source_info
    from knarr.llb.decode import decode

    config, numbers = build_config(graph)
    texts = [
        Text(source, source.file, decode(source.definition)) if source.definition else _own_text(source)
        for source in graph.sources
    ]
    return replace(facts, config=config, source=source_info(graph, numbers, texts), layers=_layers(job, graph, numbers))


def _own_text(source: SourceText) -> Text:
    """A Dockerfile that was read without a graph, as if its directory had been lent: where it is stays untold."""
    from knarr.attest.llbjson import Text
    from knarr.engine.dockerfilefrontend import dockerfile_state
    from knarr.llb.state import graph

    name = source.file.rpartition("/")[2]
    return Text(source, name, graph(dockerfile_state(name), platform=host_platform()))


def _layers(job: Job, graph: Graph, numbers: Mapping[Digest, int]) -> dict[str, Any]:
    """The layers that each step's result has, where all of them have been packed."""
    drive = job.drive
    if drive is None:
        return {}
    found: dict[str, Any] = {}
    for digest, number in numbers.items():
        for index in drive.graph.outputs.get(digest, ()) if digest in graph.vertices else ():
            edge = Edge(digest, index)
            chain = _chain(job, drive.machine.record(edge) or drive.machine.identity(edge))
            if chain:
                found[f"step{number}:{index}"] = [chain]
    return dict(sorted(found.items()))


def _chain(job: Job, record: str | None) -> Sequence[Mapping[str, Any]]:
    if record is None or job.world.cache.get(record) is None:
        return ()
    changes = [job.trees.change(link) for link in job.trees.chain(record)]
    blobs = [change.blob for change in changes if change.blob is not None]
    return [blob.bare().to_json() for blob in blobs] if len(blobs) == len(changes) else ()
