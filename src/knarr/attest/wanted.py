"""What a build is to attest, from the words of buildx and BuildKit: `attest:provenance` = `mode=max,version=v1`.

    wanted({"attest:provenance": "mode=max"})["provenance"]     # {"version": "v1", "mode": "max"}
    provenance_options({"mode": "max"}).mode                    # "max"

Spec: BuildKit's frontend/attestations/parse.go and control/control.go at v0.33.
"""

from __future__ import annotations

from collections.abc import Mapping

from knarr.errors import UsageError
from knarr.record import record

PROVENANCE, SBOM = "provenance", "sbom"
KINDS = (PROVENANCE, SBOM)
PREFIX = "attest:"
_ARGUMENT = "build-arg:BUILDKIT_ATTEST_"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
DEFAULT = "mode=min,inline-only=true"  # what buildx asks for when nothing is said of provenance
DEFAULT_FILE = "provenance.json"
VERSIONS = ("v1", "v0.2")


@record
class ProvenanceOptions:
    """How provenance is to be told."""

    version: str = "v1"
    mode: str = "max"
    inline_only: bool = False
    reproducible: bool = False  # who builds says that the build can be repeated bit for bit
    filename: str = DEFAULT_FILE
    builder_id: str = ""
    complete_materials: bool = False  # fail rather than tell half of what was used


def wanted(options: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The attestations that the options of a frontend ask for: kind → its own options.

    Raises:
        UsageError: a kind that is not known.
    """
    texts: dict[str, str] = {}
    for prefix in (PREFIX, _ARGUMENT):
        texts |= {key.removeprefix(prefix).lower(): text for key, text in options.items() if key.startswith(prefix)}
    for kind in texts:
        if kind not in KINDS:
            raise UsageError(f"unknown attestation type {kind!r}", hint=f"use one of: {', '.join(KINDS)}")
    return {kind: dict(field.partition("=")[::2] for field in fields_of(text)) for kind, text in texts.items()}


def fields_of(text: str) -> list[str]:
    """The fields of comma-separated text, which may be quoted as CSV has it.

    Raises:
        UsageError: quotes that do not close.
    """
    if '"' not in text:
        return text.split(",") if text else []
    import csv

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise UsageError(f"{text}: {error}") from error


def provenance_options(attrs: Mapping[str, str]) -> ProvenanceOptions:
    """The options of provenance; those that are not known are passed over, as BuildKit does.

    Raises:
        UsageError: a version, a mode or a switch that cannot be meant.
    """
    version = attrs.get("version", "v1")
    if version not in VERSIONS:
        raise UsageError(
            f"invalid provenance SLSA version: {version}" if version else "provenance SLSA version cannot be empty",
            hint=f"use one of: {', '.join(VERSIONS)}",
        )
    mode = {"full": "max"}.get(attrs.get("mode", "max"), attrs.get("mode", "max"))
    if mode not in ("min", "max"):
        raise UsageError(f"provenance: invalid mode {mode!r}", hint="use mode=min or mode=max")
    filename = attrs.get("filename", DEFAULT_FILE)
    if not filename:
        raise UsageError("provenance: filename is empty", hint=f"leave it out for {DEFAULT_FILE}")
    return ProvenanceOptions(
        version,
        mode,
        attrs.get("inline-only", "") in _TRUE,
        _switch(attrs, "reproducible"),
        filename,
        attrs.get("builder-id", ""),
        _switch(attrs, "complete-materials"),
    )


def _switch(attrs: Mapping[str, str], key: str) -> bool:
    text = attrs.get(key, "false")
    if text not in (*_TRUE, *_FALSE):
        raise UsageError(f"provenance: {key}={text} is neither true nor false")
    return text in _TRUE
