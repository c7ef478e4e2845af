"""Statements and provenance, held against the schemas that in-toto publishes (protobuf, read strictly)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from knarr.attest import claim, statement
from knarr.attest.provenance import Facts
from knarr.record import replace
from knarr.spec.digest import Digest

from .test_provenance import facts, told, used

IMAGE = Digest.of(b"image")
EXTENSION = "buildkit_"  # SLSA 1.0, "Extension fields": members of a producer's own begin with a name of its own


def without_extensions(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: without_extensions(one) for key, one in found.items() if not key.startswith(EXTENSION)}
    return [without_extensions(one) for one in found] if isinstance(found, list) else found


def statement_of(predicate: dict[str, Any], name: str = "pkg:docker/app@1") -> dict[str, Any]:
    said = statement.Attestation("https://slsa.dev/provenance/v1", "p.json", lambda: json.dumps(predicate).encode())
    return dict(json.loads(statement.statement(said, [statement.subject_of(name, IMAGE)])))


WHOLE = replace(facts(target="app"), config={"llbDefinition": []}, source={"infos": []})


@pytest.mark.parametrize("found", [facts(), WHOLE, facts(used(directories=()))], ids=["plain", "whole", "complete"])
@pytest.mark.parametrize("options", [{}, {"mode": "min"}, {"reproducible": True}, {"builder_id": "https://ci.test"}])
def test_provenance_is_what_slsa_publishes(found: Facts, options: dict[str, Any]) -> None:
    document = statement_of(told(found, **{"mode": "max", **options}))
    parsed = json_format.ParseDict(document, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    # A member that SLSA does not know, or one of another type, is refused here.
    read = json_format.ParseDict(without_extensions(document["predicate"]), Provenance())
    assert read.build_definition.build_type
    assert read.build_definition.resolved_dependencies


@pytest.mark.parametrize(
    "raw",
    [claim.statement(IMAGE, "app", "https://a.test/b", {"a": 1}), claim.signing_statement(IMAGE, "app", {"a": "b"})],
    ids=["attestation", "signature"],
)
def test_what_is_signed_is_a_statement_of_in_toto(raw: bytes) -> None:
    parsed = json_format.ParseDict(json.loads(raw), statement_pb2.Statement())
    assert parsed.subject[0].digest["sha256"] == IMAGE.hex


def test_these_schemas_refuse_what_they_do_not_know() -> None:
    wrong = without_extensions(told(facts(), builder_id="https://ci.test"))
    wrong["runDetails"]["metadata"]["invocation"] = "x"
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(wrong, Provenance())
