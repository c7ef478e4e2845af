"""What a source is now, for frontends that pin it or decide by it: nothing of it is fetched that is not asked for.

Spec: BuildKit's ResolveSourceMeta.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from knarr.errors import KnarrError, UsageError
from knarr.frontend.gateway import SourceState
from knarr.llb.ops import SourceOp
from knarr.progress import Sink, VertexDone, VertexStarted
from knarr.record import replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.platform import host_platform
from knarr.spec.reference import Reference
from knarr.streams import CHUNK

if TYPE_CHECKING:
    from knarr.engine.gateway import EngineGateway
    from knarr.engine.job import Job
    from knarr.frontend.sourcequestion import Checksum, SourceQuestion
    from knarr.ops.source_http import Known
    from knarr.ops.world import World


def of(gateway: EngineGateway, source: SourceOp, question: SourceQuestion) -> SourceState:
    """What `source` is now; of a kind that has nothing to tell, nothing. No policy is asked about it.

    Raises:
        KnarrError: it cannot be reached, or is not there.
    """
    scheme, separator, rest = source.identifier.partition("://")
    if not separator:
        raise UsageError(f"{source.identifier}: not the identifier of a source")
    if scheme == "docker-image":
        return _image(gateway, Reference.parse(rest), question)
    world = gateway.job.world
    if scheme == "oci-layout":
        from knarr.ops import source_layout

        layout = source_layout.look(world.session, gateway.job.images, source, question.platform or host_platform())
        return SourceState(layout.digest, layout.raw_config)
    if scheme == "git":
        with _told(world.sink, f"[internal] resolve {source.identifier}"):
            return _repository(world, source, question)
    if scheme in ("http", "https"):
        with _told(world.sink, f"[internal] resolve {source.identifier}") as vertex:
            return _file(gateway.job, source, vertex, question.checksum)
    return SourceState()


def _image(gateway: EngineGateway, reference: Reference, question: SourceQuestion) -> SourceState:
    mode = question.mode or "default"
    found = gateway.look_at_image(reference, question.platform, mode=mode)
    config = found.raw_config if question.config else b""
    if not (question.chain or question.predicates):
        return SourceState(found.digest, config)
    from knarr.engine.attestationchain import chain_of

    images = gateway.bridge(mode).images
    chain = chain_of(images, reference, question.platform or host_platform(), question.predicates)
    return SourceState(found.digest, config, chain=chain)


def _repository(world: World, source: SourceOp, question: SourceQuestion) -> SourceState:
    from knarr.ops import source_git

    asked = source_git.parse(source)
    git = source_git.git_for(world, asked)
    tip = source_git.tip_of(world, git, asked)
    state = SourceState(tip.commit, ref=tip.ref, object=tip.object)
    if not question.objects and asked.signers is None:
        return state
    commit, tag = source_git.check_signature(world, git, asked, tip)
    return replace(state, raw_commit=commit, raw_tag=tag)


def _file(job: Job, source: SourceOp, vertex: str, wanted: Checksum | None) -> SourceState:
    from knarr.ops import source_http

    asked = source_http.parse(source)
    world = job.world
    known = source_http.ask(world, asked, vertex, anew=False)
    source_http.check_signature(world, asked, known)
    job.hold(known.digest)
    name = source_http.file_name(asked, known.disposition)
    checksum = _checksum(world, known, wanted) if wanted is not None else ""
    return SourceState(known.digest, filename=name, modified_s=_seconds(known.modified), checksum=checksum)


def _checksum(world: World, known: Known, wanted: Checksum) -> str:
    """The digest of a file with the suffix of a signature, which alone says what was signed."""
    digest = hashlib.new(wanted.algorithm)
    with world.store.open(Descriptor("", known.digest, known.size)) as stream:
        while data := stream.read(CHUNK):
            world.scope.check()
            digest.update(data)
    digest.update(wanted.suffix)
    return f"{wanted.algorithm}:{digest.hexdigest()}"


def _seconds(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp()) if text else 0
    except (ValueError, OverflowError):
        return 0


@contextmanager
def _told(sink: Sink, name: str) -> Iterator[str]:
    """Show the block as a step; gives its id."""
    id = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
    sink.send(VertexStarted(id, name, at_ns=time.time_ns()))
    error = ""
    try:
        yield id
    except KnarrError as failure:
        error = failure.message
        raise
    finally:
        sink.send(VertexDone(id, error=error, at_ns=time.time_ns()))
