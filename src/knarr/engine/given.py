"""The attestations that a frontend returned with its results: predicates, or whole statements, in files of results."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from knarr.attest.statement import MAX_BYTES, SLSA, Attestation, Subject
from knarr.errors import ContentError, KnarrError
from knarr.image.copy import each
from knarr.spec import gojson

if TYPE_CHECKING:
    from knarr.engine.job import Job
    from knarr.frontend.gateway import GivenAttestation, Ref
    from knarr.frontend.request import PlatformResult

_PIECE = 8 << 20
_JOBS = 4


def given(job: Job, result: PlatformResult) -> list[Attestation]:
    """What the frontend has attested of one platform's result.

    Raises:
        ContentError: it is not what it says, or says how the build went, which only the engine knows.
    """
    found = each(lambda one: _given(job, one), result.attestations, scope=job.world.scope, jobs=_JOBS)
    return [one for several in found for one in several]


def _given(job: Job, given: GivenAttestation) -> list[Attestation]:
    """What a frontend has attested."""
    if not given.is_bundle and not given.path:
        raise ContentError("attestation does not have set path")
    if given.ref is None:
        raise ContentError("attestation does not have available content")
    tree = _Tree(job, given.ref)
    metadata = {key: value.decode(errors="replace") for key, value in given.metadata.items()}
    about = {
        "inline_only": metadata.get("inline-only") == "true",
        "reason": metadata.get("reason", ""),
        "core": metadata.get("sbom-core", ""),
    }
    if given.is_bundle:
        return [_stated(tree, given, path, about) for path in tree.names(given.path or "/")]
    if given.predicate_type.startswith(SLSA):
        raise ContentError("frontend may not set provenance attestations")
    subjects = tuple(Subject(name, _digest_map(digests)) for name, digests in given.subjects)
    tree.check(given.path)
    return [
        Attestation(given.predicate_type, given.path, lambda: tree.read(given.path), subjects, **about)  # type: ignore[arg-type]
    ]


def _stated(tree: _Tree, given: GivenAttestation, path: str, about: Mapping[str, Any]) -> Attestation:
    """One whole statement of a bundle."""
    try:
        data = json.loads(tree.read(path))
        kind, predicate = data.get("predicateType", ""), gojson.dump(data.get("predicate"))
        subjects = tuple(
            Subject(str(one.get("name", "")), {str(k): str(v) for k, v in (one.get("digest") or {}).items()})
            for one in data.get("subject") or ()
        )
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ContentError(f"{path}: cannot decode in-toto statement: {error}") from error
    if given.predicate_type and kind != given.predicate_type:
        raise ContentError(f"bundle entry {kind} does not match required predicate type {given.predicate_type}")
    if kind.startswith(SLSA):
        raise ContentError("frontend may not bundle provenance attestations")
    return Attestation(kind, path, lambda: predicate, subjects, **about)


def _digest_map(digests: tuple[str, ...] | None) -> dict[str, str] | None:
    if digests is None:
        return None
    return dict(digest.partition(":")[::2] for digest in digests)


class _Tree:
    """The files of a result that a frontend made."""

    def __init__(self, job: Job, ref: Ref) -> None:
        self._gateway, self._scope, self._ref = job.gateway, job.world.scope, ref

    def names(self, path: str) -> list[str]:
        """The files of a directory, with their paths."""
        found = self._gateway.list_directory(self._ref, path, pattern="", scope=self._scope)
        return [posixpath.join(path, one.path) for one in found]

    def check(self, path: str) -> None:
        """See that there is such a file.

        Raises:
            KnarrError: there is none, or it is too large.
        """
        size = self._gateway.stat(self._ref, path, scope=self._scope).size
        if size > MAX_BYTES:
            raise ContentError(f"{path} exceeds {MAX_BYTES} bytes")

    def read(self, path: str) -> bytes:
        """A file as a whole."""
        self.check(path)
        pieces: list[bytes] = []
        while True:
            offset = sum(map(len, pieces))
            try:
                piece = self._gateway.read_file(self._ref, path, offset=offset, length=_PIECE, scope=self._scope)
            except KnarrError as error:
                raise error.with_context(attestation=path) from error.__cause__
            pieces.append(piece)
            if len(piece) < _PIECE:
                return b"".join(pieces)
