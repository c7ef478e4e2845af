"""Where the trees of several platforms go in a directory or a tar."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from knarr.errors import UsageError
from knarr.record import field, record, replace

if TYPE_CHECKING:
    from knarr.export.context import ExportContext, Result
    from knarr.export.options import TreeOptions
    from knarr.spec.platform import Platform

PLATFORM_MODE = 0o755  # of the directory of a platform


@record
class Part:
    """One platform's tree, mounted at `root`, and the subdirectory it goes to ("": none)."""

    platform: Platform
    root: str
    directory: str
    more: Mapping[str, str] = field(default_factory=dict, hash=False)  # files beside the tree's: name → where it lies


@contextmanager
def mounted_parts(result: Result, options: TreeOptions, context: ExportContext) -> Iterator[list[Part]]:
    """The trees, each for a directory like `linux_arm64` when there are several, unless they are to be laid together.

    Raises:
        UsageError: they are, and two of them have the same file.
    """
    several = len(result.records) > 1 or result.frontend.multi_platform or context.settings.multi_platform
    split = several if options.split is None else options.split
    with ExitStack() as stack:
        parts = [
            Part(
                found.platform,
                os.fspath(stack.enter_context(result.trees.mounted(tree))),
                found.platform.in_full.replace("/", "_") if split else "",
            )
            for found, tree in zip(result.frontend.results, result.records, strict=True)
        ]
        if not split and len(parts) > 1:
            _check_disjoint(parts)
        if any(result.attestations):
            parts = stack.enter_context(_attested(parts, result, options, context, several=several, split=split))
        yield parts


@contextmanager
def _attested(
    parts: Sequence[Part],
    result: Result,
    options: TreeOptions,
    context: ExportContext,
    *,
    several: bool,
    split: bool,
) -> Iterator[list[Part]]:
    """The parts with what is said of them as further files, for as long as the block lasts."""
    from knarr.export.attestations import epoch_or_now, write_files
    from knarr.export.context import epoch_of
    from knarr.owner import owned_directory

    with owned_directory(context.settings.run / "statements") as place:
        made = []
        for number, (part, found, said) in enumerate(
            zip(parts, result.frontend.results, result.attestations, strict=True)
        ):
            directory = place / str(number)
            directory.mkdir()
            more = write_files(
                said,
                part,
                os.fspath(directory),
                prefix=options.attestation_prefix,
                suffix=f".{str(part.platform).replace('/', '_')}" if several and not split else "",
                now_ns=epoch_or_now(epoch_of(options.epoch, context, found), context.now_ns),
            )
            made.append(replace(part, more=more))
        yield made


def _check_disjoint(parts: Sequence[Part]) -> None:
    """See that no two trees have the same path, but for directories."""
    owners: dict[str, tuple[Part, bool]] = {}
    for part in parts:
        for path, is_directory in _paths(part.root):
            owner, was_directory = owners.setdefault(path, (part, is_directory))
            if owner is not part and not (is_directory and was_directory):
                raise UsageError(
                    f"cannot overwrite {path} from {owner.platform} with {part.platform} when split option is disabled",
                    hint="leave out platform-split=false",
                )


def _paths(root: str) -> Iterator[tuple[str, bool]]:
    """Every path below `root`, and whether it is a directory."""
    todo = [""]
    while todo:
        above = todo.pop()
        with os.scandir(f"{root}/{above}") as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                yield above + entry.name, is_directory
                if is_directory:
                    todo.append(f"{above}{entry.name}/")
