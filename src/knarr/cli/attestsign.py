"""`knarr attest sign`: say something about an image, sign it, and put it beside the image, as `cosign attest` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr.cli.cosignflags import SIGNING
from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.sign import FORM_FLAG, FORMAT_FLAG, HELP_FLAG, INSECURE_FLAG, sign_options, tell
from knarr.cli.signkeys import KEY_FLAG, KEYLESS_FLAGS, PASSPHRASE_FLAG
from knarr.cli.transfer import PLATFORM_FLAG, words_of
from knarr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.trust.signing import Made

FLAGS = (
    KEY_FLAG,
    PASSPHRASE_FLAG,
    *KEYLESS_FLAGS,
    Flag("predicate", Kind.TEXT, "FILE", "what is said: a file of JSON; - is standard input"),
    Flag("type", Kind.TEXT, "TYPE", "its type, or a short name: slsaprovenance1, spdx, cyclonedx, vuln, custom …"),
    PLATFORM_FLAG,
    Flag("replace", Kind.SWITCH, "", "take away earlier ones of the same key and type in the tag"),
    FORM_FLAG,
    INSECURE_FLAG,
    FORMAT_FLAG,
    HELP_FLAG,
    *SIGNING,
)
_MOST_BYTES = 40 << 20  # BuildKit's limit for a statement


def help_text() -> str:
    """What `knarr attest sign --help` prints."""
    return (
        "Usage: knarr attest sign --key KEY --predicate FILE --type TYPE [OPTIONS] IMAGE...\n\n"
        "Make a statement about images, sign it, and put it beside them: in cosign's .att tag and as a sigstore\n"
        "bundle. With --platform it is about those platforms, else about what the name leads to. To sign what the\n"
        f"image's index says already: `knarr sign --attestations`.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr attest sign ARGUMENTS`.

    Raises:
        KnarrError: a key or the predicate cannot be used, or an image not be signed.
    """
    from knarr.attest.predicates import full_type

    given = parse(FLAGS, argv, command="knarr attest sign")
    if given.switch("help"):
        print(help_text())
        return 0
    words = words_of(given, "knarr attest sign", "an image")
    if not given.text("predicate") or not given.text("type"):
        raise UsageError("knarr attest sign needs --predicate FILE and --type TYPE")
    predicate = _predicate(given.text("predicate"))
    kind = full_type(given.text("type"))
    if ":" not in kind:
        raise UsageError(
            f"--type {kind}: neither a short name nor a URI", hint="write one such as custom, or https://…"
        )
    options = sign_options(given)
    tell([one for word in words for one in _sign(word, given, kind, predicate, options)], given)
    return 0


def _sign(word: str, given: Parsed, kind: str, predicate: Any, options: Any) -> Iterator[tuple[str, Made]]:
    from knarr.attest.claim import statement
    from knarr.cli.attestations import chosen_subjects
    from knarr.cli.signplace import opened_for_signing
    from knarr.cli.transfer import platforms
    from knarr.trust.signing import sign_statement

    with opened_for_signing(word, given) as (where, place, root):
        subjects = chosen_subjects(place, root, given)
        for subject in subjects if platforms(given) else subjects[:1]:
            said = statement(subject.descriptor.digest, where.repository, kind, predicate)
            for one in sign_statement(place, subject.descriptor, said, options):
                yield where.repository, one


def _predicate(path: str) -> Any:
    import sys

    try:
        if path == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with open(Path(path), "rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path}: is larger than {_MOST_BYTES} bytes, which no tool reads")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
