"""What pull, push, save and load have in common: the store, a scope, and progress with a bar for every blob."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed
from knarr.cli.interrupt import interrupts
from knarr.errors import UsageError
from knarr.record import record
from knarr.scope import Scope
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.content.store import Store
    from knarr.engine.parts import Parts
    from knarr.image.copy import CopyReport
    from knarr.progress import Sink

PROGRESS_FLAGS = (
    Flag("quiet", Kind.SWITCH, "", "print only the result", short="q"),
    Flag("progress", Kind.TEXT, "MODE", "auto (the default), tty, plain, rawjson or quiet"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
PLATFORM_FLAG = Flag("platform", Kind.LIST, "PLATFORM", "only these platforms, such as linux/arm64")


@record
class Transfer:
    """The world of one command."""

    parts: Parts
    scope: Scope
    sink: Sink

    @property
    def store(self) -> Store:
        return self.parts.store


@contextmanager
def transfer(given: Parsed) -> Iterator[Transfer]:
    """Open the store and the progress that was asked for.

    Raises:
        UsageError: there is no such kind of progress.
        KnarrError: the state directory cannot be used.
    """
    from knarr.cli.progress.choose import choose
    from knarr.cli.state import open_parts
    from knarr.progress import Silent

    mode = "quiet" if given.switch("quiet") else given.text("progress", "auto") or "auto"
    if mode not in ("auto", "tty", "plain", "rawjson", "quiet", "none"):
        raise UsageError(f"progress {mode!r} is not known", hint="use auto, tty, plain, rawjson or quiet")
    renderer = choose(mode, sys.stderr, os.environ)
    with open_parts(os.environ) as parts, Scope() as scope, interrupts(scope):
        if renderer is None:
            yield Transfer(parts, scope, Silent())
            return
        from knarr.cli.progress.feed import Feed

        with Feed(renderer, sys.stderr.buffer) as feed:
            yield Transfer(parts, scope, feed)


@contextmanager
def quiet_transfer() -> Iterator[Transfer]:
    """The same for a command that only looks, and shows no progress."""
    from knarr.cli.state import open_parts
    from knarr.progress import Silent

    with open_parts(os.environ) as parts, Scope() as scope, interrupts(scope):
        yield Transfer(parts, scope, Silent())


def platforms(given: Parsed) -> tuple[Platform, ...]:
    """The platforms of `--platform`, each once."""
    words = [part.strip() for text in given.list("platform") for part in text.split(",")]
    return tuple(dict.fromkeys(Platform.parse(word) for word in words if word))


def words_of(given: Parsed, command: str, what: str) -> Sequence[str]:
    """The words of a command that needs at least one.

    Raises:
        UsageError: there is none.
    """
    if not given.words:
        raise UsageError(f"{command} needs {what}", hint=f"see `{command} --help`")
    return given.words


def told(report: CopyReport) -> str:
    """What a copy did, in a few words."""
    from knarr.cli.progress.figures import size

    parts = [f"{len(report.copied)} copied ({size(report.copied_bytes)})"]
    if report.mounted:
        parts.append(f"{len(report.mounted)} mounted")
    if report.present:
        parts.append(f"{len(report.present)} there already")
    return ", ".join(parts)
