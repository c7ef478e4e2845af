"""`knarr registry restore`: have a tag or a manifest back that was removed."""

from __future__ import annotations

import os

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import KnarrError, UsageError

FLAGS = (Flag("help", Kind.SWITCH, "", "show this text", short="h"),)


def help_text() -> str:
    """What `knarr registry restore --help` prints."""
    return (
        "Usage: knarr registry restore REPOSITORY:TAG|REPOSITORY@DIGEST\n\n"
        "Make a tag or a manifest visible again that a client or a collection has removed, with all it needs.\n"
        "`knarr registry gc --gone` lists what there is.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr registry restore ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr registry restore")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr registry restore takes one name", hint="knarr registry restore team/app:v1")
    from knarr.cli.registrygc import opened
    from knarr.registry import marks

    text = given.words[0]
    repository, at, digest = text.partition("@")
    tag = ""
    if not at:
        repository, _, tag = text.rpartition(":")
    if not repository or not (digest or tag):
        raise UsageError(
            f"{text!r} names neither a tag nor a manifest", hint="write REPOSITORY:TAG or REPOSITORY@DIGEST"
        )
    with opened(os.environ) as (_, ledger, _):
        if not ledger.write(lambda db: marks.restore(db, repository, digest or tag)):
            raise KnarrError(
                f"{text} cannot be restored: nothing of that name was removed lately",
                hint="`knarr registry gc --gone` lists what can",
            )
    print(f"restored {text}")
    return 0
