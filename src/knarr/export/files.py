"""The `local` and `tar` outputs: the result's files, in a directory or in a tar.

Several platforms go to one subdirectory each (`linux_amd64`), unless
platform-split=false says that they may be laid over one another.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from knarr.builder import Export
from knarr.errors import KnarrError, Unsupported, UsageError
from knarr.export.archive import opened
from knarr.export.context import ExportContext, Result, status, telling
from knarr.export.options import is_true
from knarr.layer.tar import DIRECTORY, Entry
from knarr.layer.tar_read import Reader
from knarr.layer.tar_write import Writer
from knarr.scope import Scope
from knarr.spec.platform import Platform
from knarr.streams import Writable


def export_local(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Copy the files into the directory `dest`, over what is there; they belong to this user."""
    mode = export.attrs.get("mode", "copy")
    if mode == "delete":
        raise Unsupported("--output type=local,mode=delete is not supported yet", hint="empty the directory yourself")
    if mode != "copy":
        raise UsageError(f"--output type=local: mode={mode}", hint="use mode=copy")
    dest = Path(export.attrs["dest"])
    with telling(context, "exporting to client directory") as vertex:
        for platform, record in _parts(export, result):
            target = dest / platform if platform else dest
            with status(context, vertex, f"copying files{f' {platform}' if platform else ''}"):
                target.mkdir(parents=True, exist_ok=True)
                with result.trees.mounted(record) as tree:
                    _copy(tree, target, context)
    return {}


def _parts(export: Export, result: Result) -> list[tuple[str, str | None]]:
    """(subdirectory, record) of each platform."""
    several = len(result.records) > 1
    text = export.attrs.get("platform-split")
    split = several if text is None else is_true("platform-split", text)
    names = [directory_of(found.platform) if split else "" for found in result.frontend.results]
    return list(zip(names, result.records, strict=True))


def directory_of(platform: Platform) -> str:
    """The name of a platform's subdirectory: `linux_arm64_v8`."""
    return str(platform).replace("/", "_")


def _copy(tree: Path, target: Path, context: ExportContext) -> None:
    from knarr.ops.copytree import CopyOptions, Tree, copy_all

    options = CopyOptions(owner=(os.geteuid(), os.getegid()), contents=True, replace=True)
    source = Tree(os.fspath(tree))
    try:
        copy_all(source, ["/"], os.fspath(target.resolve()), "/", options, check=context.scope.check)
    except PermissionError as error:
        raise KnarrError(f"{error.filename}: {error.strerror}", hint="choose a directory you can write") from error


def export_tar(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Write all files as one tar to `dest`, owners and modes as in the image."""
    with (
        telling(context, "exporting to client tarball") as vertex,
        opened(export.attrs["dest"]) as out,
        status(context, vertex, "sending tarball"),
        ExitStack() as stack,
    ):
        parts = _parts(export, result)
        if len(parts) == 1 and not parts[0][0]:
            tree = stack.enter_context(result.trees.mounted(parts[0][1]))
            _write_tree(tree, out)
        else:
            _write_parts([(name, stack.enter_context(result.trees.mounted(record))) for name, record in parts], out)
    return {}


def _write_tree(tree: Path, out: Writable) -> None:
    from knarr.layer.diff import write_tree

    write_tree(tree, out)


def _write_parts(parts: list[tuple[str, Path]], out: Writable) -> None:
    """Several trees in one tar: each is written as its own, and its entries are moved below its directory."""
    writer = Writer(out)
    for name, tree in parts:
        if name:
            found = os.stat(tree)
            mode = stat.S_IMODE(found.st_mode)
            writer.add(Entry(f"{name}/", DIRECTORY, mode=mode, mtime_ns=found.st_mtime_ns))
        _relocated(tree, f"{name}/" if name else "", writer)
    writer.close()


def _relocated(tree: Path, prefix: str, writer: Writer) -> None:
    read_end, write_end = os.pipe()

    def produce() -> None:
        with open(write_end, "wb") as pipe:
            _write_tree(tree, pipe)

    with Scope() as scope, open(read_end, "rb") as pipe:
        scope.start(produce)
        reader = Reader(pipe)
        for entry in reader:
            moved = entry._replace(name=prefix + entry.name)
            if entry.type == "1":
                moved = moved._replace(linkname=prefix + entry.linkname)
            if entry.size:
                writer.add_stream(moved, reader)
            else:
                writer.add(moved)
        reader.drain()
