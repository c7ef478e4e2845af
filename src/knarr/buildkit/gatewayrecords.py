"""The messages of LLBBridge as records of `frontend.gateway`, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from knarr.buildkit.gomode import go_mode
from knarr.buildkit.policies import policies
from knarr.errors import UsageError
from knarr.frontend.gateway import (
    ONLY,
    Answer,
    AttestationChain,
    FileStatus,
    Gateway,
    GivenAttestation,
    Ref,
    SourceState,
)
from knarr.frontend.sourcequestion import Checksum, SourceQuestion
from knarr.llb.ops import SourceOp
from knarr.pb import gateway_pb2 as pb
from knarr.pb import ops_pb2
from knarr.pb.stat_pb2 import Stat
from knarr.progress import Warned
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

_ALGORITHMS = ("sha256", "sha384", "sha512")  # by the numbers of the enum
_MOST_SUFFIX = 4096  # bytes, BuildKit's


def to_platform(platform: Platform) -> ops_pb2.Platform:
    return ops_pb2.Platform(
        OS=platform.os,
        Architecture=platform.architecture,
        Variant=platform.variant,
        OSVersion=platform.os_version,
        OSFeatures=platform.os_features,
    )


def platform_of(message: Any, field: str) -> Platform | None:
    """The platform that a message of any kind names in `field`, if it names one."""
    if not message.HasField(field):
        return None
    p = getattr(message, field)
    named = {"os": p.OS, "architecture": p.Architecture, "variant": p.Variant, "os.version": p.OSVersion}
    return Platform.from_json({**named, "os.features": list(p.OSFeatures)})


def to_stat(status: FileStatus) -> Stat:
    return Stat(
        path=status.path,
        mode=go_mode(status.mode),
        uid=status.uid,
        gid=status.gid,
        size=status.size,
        modTime=status.modified_ns,
        linkname=status.link,
        devmajor=status.device[0],
        devminor=status.device[1],
        xattrs=status.xattrs,
    )


# --- sources


def source_of(message: ops_pb2.SourceOp) -> SourceOp:
    return SourceOp(message.identifier, dict(message.attrs))


def to_source(source: SourceOp) -> ops_pb2.SourceOp:
    return ops_pb2.SourceOp(identifier=source.identifier, attrs=source.attrs)


def question_of(request: pb.ResolveSourceMetaRequest) -> SourceQuestion:
    """What is to be told of a source.

    Raises:
        UsageError: a checksum cannot be meant.
    """
    return SourceQuestion(
        platform_of(request, "Platform"),
        request.ResolveMode,
        not request.Image.NoConfig,
        request.Image.AttestationChain,
        tuple(request.Image.ResolveAttestations),
        _checksum(request.HTTP.ChecksumRequest) if request.HTTP.HasField("ChecksumRequest") else None,
        request.Git.ReturnObject,
    )


def _checksum(request: pb.ChecksumRequest) -> Checksum:
    if not 0 <= request.Algo < len(_ALGORITHMS):
        known = ", ".join(_ALGORITHMS)
        raise UsageError(f"unsupported checksum algorithm {request.Algo}", hint=f"known are: {known}")
    if len(request.Suffix) > _MOST_SUFFIX:
        raise UsageError(f"the checksum's suffix exceeds max size: {len(request.Suffix)} > {_MOST_SUFFIX} bytes")
    return Checksum(_ALGORITHMS[request.Algo], request.Suffix)


def governed(gateway: Gateway, reference: Reference, request: pb.ResolveImageConfigRequest) -> Reference:
    """The image that is to be looked at where `reference` is asked for."""
    if not request.SourcePolicies:
        return reference
    scheme = "docker-image://"
    platform = platform_of(request, "Platform")
    op = gateway.governed(SourceOp(f"{scheme}{reference}"), platform, policies(request.SourcePolicies))
    if not op.identifier.startswith(scheme):
        raise UsageError(f"the source policy makes {op.identifier} of image {reference.familiar}")
    return Reference.parse(op.identifier.removeprefix(scheme))


def source_response(source: SourceOp, question: SourceQuestion, found: SourceState) -> pb.ResolveSourceMetaResponse:
    """`source` is the one that was looked at: policies may have put it in the place of the one that was asked for."""
    answer = pb.ResolveSourceMetaResponse(Source=to_source(source))
    scheme = source.identifier.partition("://")[0]
    if scheme in ("docker-image", "oci-layout"):
        answer.Image.Digest = found.digest
        answer.Image.Config = found.config if question.config else b""
        if found.chain is not None:
            _fill_chain(answer.Image.AttestationChain, found.chain)
    elif scheme == "git":
        answer.Git.Checksum, answer.Git.Ref = found.object, found.ref
        answer.Git.CommitChecksum = found.digest if found.digest != found.object else ""
        answer.Git.CommitObject, answer.Git.TagObject = found.raw_commit, found.raw_tag
    elif scheme in ("http", "https"):
        answer.HTTP.Checksum, answer.HTTP.Filename = found.digest, found.filename
        if found.modified_s:
            answer.HTTP.LastModified.seconds = found.modified_s
        if question.checksum is not None:
            answer.HTTP.ChecksumResponse.Digest = found.checksum
            answer.HTTP.ChecksumResponse.Suffix = question.checksum.suffix
    return answer


def _fill_chain(message: pb.AttestationChain, chain: AttestationChain) -> None:
    message.Root, message.ImageManifest = chain.root, chain.image
    message.AttestationManifest = chain.attestation or ""
    message.SignatureManifests.extend([chain.signature] if chain.signature else [])
    for descriptor, data in chain.blobs:
        blob = message.Blobs[descriptor.digest]
        blob.data = data
        blob.descriptor.media_type, blob.descriptor.digest = descriptor.media_type, descriptor.digest
        blob.descriptor.size = descriptor.size
        blob.descriptor.annotations.update(descriptor.annotations)


# --- results


def ids_of(result: pb.Result) -> dict[str, str]:
    """The ids that a result names, by platform; an empty id is scratch."""
    kind = result.WhichOneof("result")
    if kind == "ref":
        return {ONLY: result.ref.id}
    if kind == "refDeprecated":
        return {ONLY: result.refDeprecated}
    if kind == "refs":
        return {name: ref.id for name, ref in result.refs.refs.items()}
    if kind == "refsDeprecated":
        return dict(result.refsDeprecated.refs)
    return {ONLY: ""}


def attestations_of(result: pb.Result, ref: Callable[[str], Ref]) -> dict[str, tuple[GivenAttestation, ...]]:
    """The attestations of a result by platform; `ref` knows the results that they lie in by their ids."""
    return {
        name: tuple(_attestation(one, ref) for one in given.attestation)
        for name, given in result.attestations.items()
        if given.attestation
    }


def _attestation(message: pb.Attestation, ref: Callable[[str], Ref]) -> GivenAttestation:
    subjects = tuple((one.name, tuple(one.digest) if one.kind == pb.Raw else None) for one in message.inTotoSubjects)
    return GivenAttestation(
        ref(message.ref.id) if message.ref.id else None,
        message.path,
        message.inTotoPredicateType,
        message.kind == pb.Bundle,
        subjects,
        dict(message.metadata),
    )


def to_attestation(given: GivenAttestation, id: str) -> pb.Attestation:
    """The message for `given`, whose result has this id; "": it has none."""
    raw, self = pb.Raw, pb.Self
    message = pb.Attestation(
        kind=pb.Bundle if given.is_bundle else pb.InToto,
        metadata=given.metadata,
        path=given.path,
        inTotoPredicateType=given.predicate_type,
        inTotoSubjects=[
            pb.InTotoSubject(kind=self if digests is None else raw, name=name, digest=digests or ())
            for name, digests in given.subjects
        ],
    )
    if given.ref is not None:
        _fill(message.ref, id, given.ref.definition)
    return message


def solve_response(
    request: pb.SolveRequest, answer: Answer, ids: Mapping[str, str], named: Callable[[Ref], str]
) -> pb.SolveResponse:
    """`answer` with its results under `ids`, in the form that the client understands; `named` gives ids to others."""
    if ONLY not in ids and not request.allowResultReturn:
        raise UsageError("a client of this age cannot be given several results")
    response = pb.SolveResponse()
    response.result.metadata.update(answer.metadata)
    for platform, given in answer.attestations.items():
        response.result.attestations[platform].attestation.extend(
            to_attestation(one, named(one.ref) if one.ref is not None else "") for one in given
        )
    if ONLY in ids:
        if not request.allowResultReturn:
            response.ref = ids[ONLY]
        if request.allowResultArrayRef:
            _fill(response.result.ref, ids[ONLY], answer.refs[ONLY].definition)
        else:
            response.result.refDeprecated = ids[ONLY]
    elif request.allowResultArrayRef:
        response.result.refs.SetInParent()
        for name, id in ids.items():
            _fill(response.result.refs.refs[name], id, answer.refs[name].definition)
    else:
        response.result.refsDeprecated.refs.update(ids)
    return response


def _fill(ref: pb.Ref, id: str, definition: bytes) -> None:
    ref.id = id
    if id:
        getattr(ref, "def").ParseFromString(definition)


def range_of(request: pb.ReadFileRequest) -> tuple[int, int | None]:
    """(offset, length) of what is to be read; None: to the end."""
    if not request.HasField("Range"):
        return 0, None
    if request.Range.Offset < 0 or request.Range.Length < 0:
        raise UsageError("a range of a file cannot be negative")
    return request.Range.Offset, request.Range.Length


def warning(request: pb.WarnRequest) -> Warned:
    line = min((r.start.line for r in request.ranges), default=0)
    last = max((r.end.line for r in request.ranges), default=0)
    return Warned(
        request.digest,
        request.short.decode(errors="replace"),
        b"\n".join(request.detail).decode(errors="replace"),
        request.url,
        request.info.filename,
        line,
        source=request.info.data,
        level=request.level,
        last_line=last if last > line else 0,
    )
