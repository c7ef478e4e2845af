"""`knarr rmi`: remove names of images from the store. What nothing names any more goes with `knarr prune`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import words_of
from knarr.errors import KnarrError

if TYPE_CHECKING:
    from knarr.content.store import Store

FLAGS = (
    Flag("force", Kind.SWITCH, "", "an image that is not there is no failure", short="f"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr rmi --help` prints."""
    return (
        "Usage: knarr rmi [OPTIONS] IMAGE...\n\n"
        "Remove names of images. A digest, or the beginning of one, stands for all names of that image.\n"
        f"`knarr prune` frees the space of what has no name left.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr rmi ARGUMENTS`; images after one that is not there are removed, too."""
    from knarr.cli.state import open_parts

    given = parse(FLAGS, argv, command="knarr rmi")
    if given.switch("help"):
        print(help_text())
        return 0
    status = 0
    with open_parts(os.environ) as parts:
        for word in words_of(given, "knarr rmi", "an image"):
            try:
                for name in _remove(parts.store, word):
                    print(f"removed {name}")
            except KnarrError as error:
                if not given.switch("force"):
                    print(error.render(), file=sys.stderr)
                    status = error.exit_code
    return status


def _remove(store: Store, word: str) -> list[str]:
    """The names that were removed."""
    from knarr.image.stored import lookup

    found = lookup(store, word)
    names = [found.name]
    if found.descriptor.digest.startswith((word, f"sha256:{word}")):
        names = [name.name for name in store.names.list() if name.descriptor.digest == found.descriptor.digest]
    removed = [name for name in names if store.names.delete(name)]
    _remove_hanging(store, removed)
    return removed


def _remove_hanging(store: Store, removed: list[str]) -> None:
    """Forget lists of referrers and digest tags in repositories where no image has a name any more."""
    from knarr.spec.referrers import is_digest_tag, is_fallback_tag

    for repository in {name.rpartition(":")[0] for name in removed if "/" in name and "@" not in name}:
        left = [name.name for name in store.names.list(f"{repository}:")]
        tags = [name.removeprefix(f"{repository}:") for name in left]
        if all(is_fallback_tag(tag) or is_digest_tag(tag) for tag in tags):
            for name in left:
                store.names.delete(name)
