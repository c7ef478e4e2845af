"""`--attest`, `--provenance` and `--sbom`: what is attested of a build, and what nobody has to ask for.

As buildx: `--provenance=VALUE` is `--attest type=provenance,VALUE`, of two for one
kind the later counts, and provenance of the small form goes into an image's index
unless it is switched off.
"""

from __future__ import annotations

from collections.abc import Mapping

from knarr.attest.wanted import DEFAULT, PROVENANCE, SBOM, fields_of, provenance_options, wanted
from knarr.cli.flags import Parsed
from knarr.errors import UsageError

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
NO_DEFAULT = "BUILDX_NO_DEFAULT_ATTESTATIONS"
NO_ARTIFACT = "BUILDX_NO_DEFAULT_OCI_ARTIFACT"
METADATA = "BUILDX_METADATA_PROVENANCE"


def attests(given: Parsed, build_args: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Kind → its options, as `attest.wanted` reads them.

    Raises:
        UsageError: a kind or an option that cannot be meant.
    """
    texts: dict[str, str | None] = {}
    for text in given.list("attest"):
        if text:
            _take(texts, text)
    for kind in (PROVENANCE, SBOM):
        text = given.text(kind)
        if text:
            _take(texts, f"type={kind}," + (f"disabled={text in _FALSE}" if text in (*_TRUE, *_FALSE) else text))
    if PROVENANCE not in texts and not switched_on(environ, NO_DEFAULT):
        texts[PROVENANCE] = DEFAULT
    said = {f"attest:{kind}": text for kind, text in texts.items() if text is not None}
    arguments = {f"build-arg:{name}": value for name, value in build_args.items()}
    found = wanted({**said, **{key: text for key, text in arguments.items() if "BUILDKIT_ATTEST_" in key}})
    if PROVENANCE in found:
        provenance_options(found[PROVENANCE])
    return found


def switched_on(environ: Mapping[str, str], name: str) -> bool:
    """Whether a variable that is true or false is true.

    Raises:
        UsageError: it is neither.
    """
    text = environ.get(name, "")
    if text not in ("", *_TRUE, *_FALSE):
        raise UsageError(f"{name}={text} is neither true nor false")
    return text in _TRUE


def metadata_mode(environ: Mapping[str, str]) -> str:
    """How much provenance `--metadata-file` tells: `min`, `max`, or "" for none."""
    text = environ.get(METADATA, "")
    if text in ("", "min"):
        return "min"
    if text == "max":
        return "max"
    return "min" if text in _TRUE else ""


def _take(texts: dict[str, str | None], text: str) -> None:
    kind, disabled, rest = "", False, []
    for field in fields_of(text):
        key, equals, value = field.partition("=")
        if not equals:
            raise UsageError(f"--attest {text}: {field!r} is not key=value", hint="write type=provenance,mode=max")
        name = key.strip().lower()
        if name == "type":
            kind = value
        elif name == "disabled":
            if value not in (*_TRUE, *_FALSE):
                raise UsageError(f"--attest {text}: disabled={value} is neither true nor false")
            disabled = value in _TRUE
        else:
            rest.append(f'"{field}"' if "," in field else field)
    if not kind:
        raise UsageError(f"--attest {text}: attestation type not specified", hint="write type=provenance or type=sbom")
    texts[kind] = None if disabled else ",".join(rest)
