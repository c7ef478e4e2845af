"""`knarr attest list`: the attestations of an image, a line for each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from knarr.cli.attestations import SELECT_FLAGS, attestations
from knarr.cli.flags import parse, usage
from knarr.cli.sign import FORMAT_FLAG, HELP_FLAG, INSECURE_FLAG, check_format
from knarr.cli.transfer import words_of

if TYPE_CHECKING:
    from knarr.attest.evidence import Evidence
    from knarr.trust.subjects import Subject

FLAGS = (*SELECT_FLAGS, INSECURE_FLAG, FORMAT_FLAG, HELP_FLAG)


def help_text() -> str:
    """What `knarr attest list --help` prints."""
    return (
        "Usage: knarr attest list [OPTIONS] IMAGE...\n\n"
        "List the attestations of images, on what the name leads to and on every platform below. Whether a\n"
        "signature is worth something is what `knarr attest verify` tells.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr attest list ARGUMENTS`.

    Raises:
        KnarrError: an image cannot be looked at.
    """
    from knarr.cli.signplace import opened_for_looking
    from knarr.cli.table import rows

    given = parse(FLAGS, argv, command="knarr attest list")
    if given.switch("help"):
        print(help_text())
        return 0
    check_format(given)
    found: list[tuple[Subject, Evidence]] = []
    for word in words_of(given, "knarr attest list", "an image"):
        with opened_for_looking(word, given) as (_, place, root):
            found += attestations(place, root, given)
    if given.text("format") == "json":
        print(json.dumps([_object(subject, piece) for subject, piece in found], indent=2))
    elif found:
        lines = [_cells(subject, piece) for subject, piece in found]
        print("\n".join(rows([("OF", "TYPE", "WHERE", "SIGNED", "DIGEST"), *lines])))
    return 0


def _cells(subject: Subject, piece: Evidence) -> tuple[str, ...]:
    kind = piece.claim.predicate_type if piece.claim is not None else f"({piece.problem})"
    return (subject.platform or "image", kind, piece.form, _signed(piece), str(piece.digest))


def _signed(piece: Evidence) -> str:
    if piece.is_keyless:
        return "certificate"
    return "key" if piece.is_signed else "no"


def _object(subject: Subject, piece: Evidence) -> dict[str, Any]:
    found = {
        "subject": str(subject.descriptor.digest),
        "platform": subject.platform,
        "predicateType": piece.claim.predicate_type if piece.claim is not None else "",
        "form": piece.form,
        "signed": _signed(piece),
        "digest": str(piece.digest),
        "problem": piece.problem,
    }
    return {name: value for name, value in found.items() if value}
