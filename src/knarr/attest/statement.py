"""In-toto statements: a predicate (provenance, an SBOM), and what it is about.

    said = Attestation(SLSA_1, "provenance.json", lambda: b'{"buildDefinition": …}')
    statement(said, [Subject("pkg:docker/app@1", {"sha256": "…"})])  # the bytes of an attestation's layer

Members and their order are those of in-toto-golang and Go's encoding/json, so that
equal statements have the digests that BuildKit's have.
Spec: in-toto attestation framework v1.0, statement.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from knarr.errors import ContentError
from knarr.record import field, record
from knarr.spec import gojson
from knarr.spec.digest import Digest

STATEMENT = "https://in-toto.io/Statement/v1"
SLSA = "https://slsa.dev/provenance/"
SLSA_1, SLSA_02 = f"{SLSA}v1", f"{SLSA}v0.2"
SPDX = "https://spdx.dev/Document"
CYCLONEDX = "https://cyclonedx.org/bom"
PREDICATE_TYPE = "in-toto.io/predicate-type"  # annotation of a layer that holds a statement
MAX_BYTES = 40 << 20  # of one statement: BuildKit's limit
NAMELESS = "_"  # of a subject: in-toto Statement v1


@record
class Subject:
    """What a statement is about. Without `digests`: whatever it is attached to, by a further name."""

    name: str = ""
    digests: Mapping[str, str] | None = field(default=None, hash=False)  # algorithm → hexadecimal


@record
class Attestation:
    """Something to be said of one platform's result, once it is exported.

    `predicate` gives the predicate's JSON when it is needed, which may be never and
    may be several times (one output each). `path` names the file where files are
    written. Without `subjects` it is about what it is attached to.
    """

    predicate_type: str
    path: str
    predicate: Callable[[], bytes]
    subjects: tuple[Subject, ...] = ()
    inline_only: bool = False  # only where it goes into an image's index anyway, never a reason to make something more
    reason: str = ""  # `provenance`, `sbom`: why it is there
    core: str = ""  # of an SBOM: the name of the file that is about the result itself

    @property
    def is_core(self) -> bool:
        """Whether it is the SBOM of the result itself, which comes first."""
        return bool(self.core) and self.path.rpartition("/")[2].partition(".")[0] == self.core


def subject_of(name: str, digest: Digest) -> Subject:
    return Subject(name, {digest.algorithm: digest.hex})


def statement(said: Attestation, own: Sequence[Subject]) -> bytes:
    """The statement as compact JSON. `own` are the names of what it is attached to.

    Raises:
        ContentError: the predicate is not JSON, or too large.
    """
    predicate = said.predicate() or b"null"
    if len(predicate) > MAX_BYTES:
        raise ContentError(f"{said.path}: {len(predicate)} bytes are over the limit of {MAX_BYTES}")
    subjects = [
        {"name": subject.name, "digest": dict(sorted((subject.digests or {}).items()))}
        for subject in _subjects(said, own)
    ]
    head = gojson.dump({"_type": STATEMENT, "predicateType": said.predicate_type, "subject": subjects})
    try:
        return head[:-1] + b',"predicate":' + gojson.compact(predicate) + b"}"
    except ValueError as error:
        raise ContentError(f"{said.path}: the attestation is not JSON: {error}") from error


def indented(raw: bytes) -> bytes:
    """A statement as it is written into a file."""
    return gojson.dump(json.loads(raw), indent=2)


def ordered(said: Sequence[Attestation]) -> list[Attestation]:
    """Attestations as BuildKit orders them: SBOMs of the result itself first."""
    return sorted(said, key=lambda one: not one.is_core)


def _subjects(said: Attestation, own: Sequence[Subject]) -> list[Subject]:
    found: list[Subject] = []
    for subject in said.subjects or (Subject(),):
        if subject.digests is not None:
            found.append(Subject(subject.name or NAMELESS, subject.digests))
            continue
        for mine in own:
            found.append(mine)
            if subject.name:
                found.append(Subject(subject.name, mine.digests))
    return found
