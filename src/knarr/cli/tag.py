"""`knarr tag`: give an image in the store another name."""

from __future__ import annotations

import os

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import UsageError

FLAGS = (Flag("help", Kind.SWITCH, "", "show this text", short="h"),)


def help_text() -> str:
    """What `knarr tag --help` prints."""
    return (
        "Usage: knarr tag IMAGE NAME[:TAG]...\n\n"
        "Give an image other names. IMAGE is a name, a digest, or the beginning of one.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr tag ARGUMENTS`."""
    from knarr.cli.state import open_parts
    from knarr.image.stored import lookup
    from knarr.spec.reference import Reference

    given = parse(FLAGS, argv, command="knarr tag")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) < 2:
        raise UsageError("knarr tag needs an image and a new name", hint="write knarr tag IMAGE NAME[:TAG]")
    image, *texts = given.words
    names = [Reference.parse(text).tagged() for text in texts]
    for name in names:
        if name.digest is not None:
            raise UsageError(f"{name}: a digest cannot be chosen", hint="give a name and a tag only")
    with open_parts(os.environ) as parts:
        found = lookup(parts.store, image)
        for name in names:
            parts.store.tag(found.descriptor, str(name))
    return 0
