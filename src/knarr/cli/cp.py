"""`knarr cp`: files between a container and this machine."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.containers.store import Container

FLAGS = (
    Flag("archive", Kind.SWITCH, "", "owners stay what they are", short="a"),
    Flag("follow-link", Kind.SWITCH, "", "copy what a symlink leads to", short="L"),
    Flag("quiet", Kind.SWITCH, "", "accepted for docker's sake: nothing is said", short="q"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr cp --help` prints."""
    return (
        "Usage: knarr cp [OPTIONS] CONTAINER:PATH PATH|-\n"
        "       knarr cp [OPTIONS] PATH CONTAINER:PATH\n\n"
        "Copy a file or a directory out of a container or into it, whether it runs or not. A directory whose\n"
        "name ends in /. gives its contents. `-` is a tar on standard output.\n\nOptions:\n" + usage(FLAGS)
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr cp ARGUMENTS`."""
    from knarr.cli.containerplace import opened

    given = parse(FLAGS, argv, command="knarr cp")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 2:
        raise UsageError("knarr cp needs a source and a target", hint="see `knarr cp --help`")
    (source, source_path), (target, target_path) = map(_place, given.words)
    if bool(source) == bool(target):
        raise UsageError("knarr cp needs one path in a container, and one here", hint="write CONTAINER:PATH")
    follow, keeps = given.switch("follow-link"), given.switch("archive")
    if source:
        _out(opened().find(source), source_path, target_path, follow=follow, keeps_owners=keeps)
    else:
        _into(source_path, opened().find(target), target_path, follow=follow, keeps_owners=keeps)
    return 0


def _place(word: str) -> tuple[str, str]:
    """The container (empty: this machine) and the path; one that begins with / or . is always of this machine."""
    name, colon, path = word.partition(":")
    if not colon or word.startswith(("/", ".")):
        return "", word
    if not path:
        raise UsageError(f"{word}: there is no path behind the container", hint="write CONTAINER:PATH")
    return name, "/" + path.lstrip("/")


def _out(container: Container, path: str, target: str, *, follow: bool, keeps_owners: bool) -> None:
    from knarr.containers.inside import exchange
    from knarr.containers.treetar import pack, unpack

    def there(stream: IO[bytes]) -> None:
        pack(path, stream, follow=follow)

    def here(stream: IO[bytes]) -> None:
        if target == "-":
            while data := stream.read(1 << 16):
                sys.stdout.buffer.write(data)
            return
        owner = None if keeps_owners and not os.geteuid() else (os.geteuid(), os.getegid())
        unpack(stream, target, _name(path), contents=path.endswith("/."), owner=owner, trusted=False)

    exchange(container, path, there, here, outwards=True)


def _into(path: str, container: Container, target: str, *, follow: bool, keeps_owners: bool) -> None:
    from knarr.containers.inside import exchange
    from knarr.containers.treetar import pack, unpack

    def there(stream: IO[bytes]) -> None:
        owner = None if keeps_owners else (0, 0)
        unpack(stream, target, _name(os.path.abspath(path)), contents=path.endswith("/."), owner=owner, trusted=True)

    def here(stream: IO[bytes]) -> None:
        pack(path, stream, follow=follow)

    exchange(container, target, there, here, outwards=False)


def _name(path: str) -> str:
    return os.path.basename(os.path.normpath(path))
