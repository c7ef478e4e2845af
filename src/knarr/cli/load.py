"""`knarr load`: read images from a docker or OCI archive, compressed or not, or from an OCI layout directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol

from knarr.cli.flags import Flag, Kind, no_words, parse, usage
from knarr.cli.transfer import PROGRESS_FLAGS, Transfer, transfer
from knarr.content.target import Tagger
from knarr.errors import KnarrError, UsageError
from knarr.image.copy import Place

if TYPE_CHECKING:
    from pathlib import Path

    from knarr.image.layout import Layout
    from knarr.image.load import Archive
    from knarr.image.save import NamedImage
    from knarr.spec.platform import Platform
    from knarr.streams import Readable

FLAGS = (
    Flag("input", Kind.TEXT, "FILE", "read this archive or layout (default: standard input)", short="i"),
    Flag("into", Kind.TEXT, "PLACE", "containerd://[NAMESPACE]: into a containerd instead of knarr's own store"),
    *PROGRESS_FLAGS,
)


def help_text() -> str:
    """What `knarr load --help` prints."""
    return (
        "Usage: knarr load [OPTIONS]\n\n"
        "Read images from an archive of docker save, podman, skopeo or another builder, also if it is\n"
        f"compressed with gzip, zstd, xz or bzip2, or from the directory of an OCI layout.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr load ARGUMENTS`.

    Raises:
        ContentError: the archive is damaged or of another kind; names it would have set are as they were.
    """
    given = parse(FLAGS, argv, command="knarr load")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr load")
    path = given.text("input")
    if path in ("", "-") and sys.stdin.isatty():
        raise UsageError("an archive is expected on standard input", hint="use --input FILE, or redirect the input")
    with transfer(given) as world, _opened_target(world, given.text("into")) as target:
        loaded = _load_directory(world, target, path) if os.path.isdir(path) else _load_file(world, target, path)
    for line in loaded:
        print(line)
    return 0


class _Target(Place, Tagger, Protocol):
    """Where images are loaded to: the store, or a containerd."""


@contextmanager
def _opened_target(world: Transfer, text: str) -> Iterator[_Target]:
    if not text:
        yield world.store
        return
    from knarr.cli.containerdplace import dialled, namespace_of
    from knarr.containerd.place import ContainerdPlace

    with dialled(world, namespace_of(text, "--into"), make=True) as daemon:
        yield ContainerdPlace(daemon)


def _load_directory(world: Transfer, target: _Target, path: str) -> list[str]:
    from pathlib import Path

    from knarr.image.layout import Layout
    from knarr.image.load import images_of_layout

    layout = Layout.at(Path(path))
    return _load(world, target, layout, images_of_layout(layout.entries()), path)


def _load_file(world: Transfer, target: _Target, path: str) -> list[str]:
    from knarr.image.load import open_archive

    with seekable(path, world.parts.settings.run, world) as file:
        archive = open_archive(file)
        return _load(world, target, archive, archive.images, path or "standard input")


@contextmanager
def seekable(path: str, scratch: Path, world: Transfer) -> Iterator[BinaryIO]:
    """The archive at `path` (`-`: standard input), uncompressed: itself, or what it unpacks to on the store's disk."""
    from knarr.layer.magic import sniff

    with _input(path) as file:
        start = os.pread(file.fileno(), 10, 0) if file.seekable() else b""
        if start and sniff(start) == "uncompressed":
            yield file
            return
        with _unpacked(file, scratch, world) as unpacked:
            yield unpacked


@contextmanager
def _input(path: str) -> Iterator[BinaryIO]:
    if path in ("", "-"):
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115  # closed below; only its opening is translated
    except OSError as error:
        raise KnarrError(f"{path}: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def _unpacked(stream: Readable, scratch: Path, world: Transfer) -> Iterator[BinaryIO]:
    from tempfile import TemporaryFile

    from knarr.layer.decompress import open_compressed
    from knarr.streams import copy

    with TemporaryFile(dir=scratch) as file:
        copy(open_compressed(stream), file, check=world.scope.check)
        file.flush()
        file.seek(0)
        yield file


def _load(
    world: Transfer, target: _Target, source: Archive | Layout, images: tuple[NamedImage, ...], where: str
) -> list[str]:
    from knarr.export.vertex import Vertex
    from knarr.image.copy import copy_graph

    loaded = []
    with Vertex(world.sink, f"load {where}") as vertex:
        for image in images:
            copy_graph(
                source,
                target,
                image.descriptor,
                scope=world.scope,
                platforms=_platforms(source, image),
                watch=vertex.watch("reading"),
                sparse_target=True,
            )
        # Names last: a damaged archive sets none.
        for image in images:
            for name in image.names or (f"<none>@{image.descriptor.digest}",):
                target.tag(image.descriptor, name)
                loaded.append(f"Loaded image: {name.removeprefix('<none>@')}")
    return loaded


def _platforms(source: Archive | Layout, image: NamedImage) -> tuple[Platform, ...] | None:
    """The platforms an archive has of an index that it does not have as a whole."""
    from knarr.image.stored import platforms_here
    from knarr.spec import mediatype

    return platforms_here(source, image.descriptor) if mediatype.is_index(image.descriptor.media_type) else None
