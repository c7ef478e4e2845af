"""`knarr attest show`: what attestations say, in a few lines or whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from knarr.cli.attestations import SELECT_FLAGS, attestations
from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.sign import HELP_FLAG, INSECURE_FLAG
from knarr.errors import KnarrError, UsageError

if TYPE_CHECKING:
    from knarr.attest.evidence import Evidence
    from knarr.trust.subjects import Subject

_FORMATS = ("", "json", "predicate")
FLAGS = (
    *SELECT_FLAGS,
    Flag("format", Kind.TEXT, "FORM", "json: whole statements; predicate: the predicate of the only one, for tools"),
    INSECURE_FLAG,
    HELP_FLAG,
)


def help_text() -> str:
    """What `knarr attest show --help` prints."""
    return (
        "Usage: knarr attest show [OPTIONS] IMAGE\n\n"
        "Show what was said about an image. Nothing is checked: see `knarr attest verify`. For scanners:\n"
        "  knarr attest show --type spdx --platform linux/amd64 --format predicate IMAGE > sbom.json\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr attest show ARGUMENTS`.

    Raises:
        KnarrError: the image cannot be looked at, or a single predicate is wanted and there is not one.
    """
    from knarr.cli.signplace import opened_for_looking

    given = parse(FLAGS, argv, command="knarr attest show")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr attest show needs one image", hint="see `knarr attest show --help`")
    form = given.text("format")
    if form not in _FORMATS:
        raise UsageError(f"--format {form}: not known", hint="use json or predicate")
    with opened_for_looking(given.words[0], given) as (where, place, root):
        found = tuple(attestations(place, root, given))
    if form == "predicate":
        print(json.dumps(_only(found, where.text), indent=2, ensure_ascii=False))
    elif form == "json":
        print(json.dumps([_object(subject, piece) for subject, piece in found], indent=2, ensure_ascii=False))
    else:
        text = "\n\n".join("\n".join(_lines(subject, piece)) for subject, piece in found)
        print(text or f"{where.text}: there is no attestation")
    return 0


def _only(found: tuple[tuple[Subject, Evidence], ...], name: str) -> Any:
    """The predicate of the only attestation; the same one in several forms is one."""
    broken = [piece.problem for _, piece in found if piece.claim is None]
    claims = {
        json.dumps([sorted(piece.claim.digests), piece.claim.predicate_type, piece.claim.predicate]): piece.claim
        for _, piece in found
        if piece.claim is not None
    }
    if len(claims) == 1:
        return next(iter(claims.values())).predicate
    if not claims:
        raise KnarrError(f"{name}: there is no such attestation{f': {broken[0]}' if broken else ''}")
    raise KnarrError(f"{name}: there are {len(claims)} attestations", hint="choose with --type and --platform")


def _object(subject: Subject, piece: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = {"subject": str(subject.descriptor.digest), "form": piece.form, "digest": str(piece.digest)}
    if subject.platform:
        found["platform"] = subject.platform
    if piece.claim is None:
        return {**found, "problem": piece.problem}
    return {**found, "statement": json.loads(piece.payload)}


def _lines(subject: Subject, piece: Evidence) -> Iterator[str]:
    from knarr.attest.predicates import summary

    of = subject.platform or str(subject.descriptor.digest)
    if piece.claim is None:
        yield f"{of}: {piece.form} {piece.digest} cannot be read: {piece.problem}"
        return
    yield f"{of}: {piece.claim.predicate_type} ({piece.form}, {'signed' if piece.is_signed else 'unsigned'})"
    lines = summary(piece.claim.predicate_type, piece.claim.predicate)
    if not lines:
        lines = json.dumps(piece.claim.predicate, indent=2, ensure_ascii=False).splitlines()
    yield from (f"  {line}" for line in lines)
