"""How the failure of a command is shown, and which exit status it has."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from knarr.errors import Bug, Cancelled, KnarrError, UsageError

_INTERRUPTED = 130  # 128 + SIGINT, as shells say it
_TERMINATED = 143  # 128 + SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the same way out as Ctrl-C, with another status."""


def report(error: BaseException, words: list[str]) -> int:
    """Show `error` on standard error and return the exit status of the command line `words`."""
    if isinstance(error, SystemExit):  # argparse has said what it had to say
        return error.code if isinstance(error.code, int) else 1 if error.code else 0
    if isinstance(error, Terminated):
        return _TERMINATED
    if isinstance(error, (KeyboardInterrupt, Cancelled)):
        _say("cancelled")
        return _INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _silence()
        return 1
    if not isinstance(error, KnarrError):
        error = _foreign(error, words)
    elif isinstance(error, Bug):
        _keep(error, error, words)
    _say(error.render())
    return error.exit_code


def unknown_command(word: str, known: Iterable[str]) -> UsageError:
    """The error for a command that does not exist, with the nearest that does."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    hint = f"did you mean {near[0]}?" if near else "`knarr --help` lists the commands"
    return UsageError(f"{word!r} is not a knarr command", hint=hint)


def _foreign(error: BaseException, words: list[str]) -> KnarrError:
    """An exception that nobody translated: the disk's word is passed on, anything else is our defect."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        shown = KnarrError(f"{where}{error.strerror}")
        _keep(error, shown, words)
        return shown
    bug = Bug(f"{type(error).__name__}: {error}".splitlines()[0])
    _keep(error, bug, words)
    return bug


def _keep(error: BaseException, shown: KnarrError, words: list[str]) -> None:
    """Put the traceback where a report can take it from, or show it if `KNARR_DEBUG` says so."""
    from traceback import format_exception

    text = "".join(format_exception(error))
    if os.environ.get("KNARR_DEBUG", "0") not in ("", "0"):
        _say(text.rstrip())
        return
    if isinstance(shown, Bug):
        place = _write(f"knarr {' '.join(words[:1])}\n{text}")
        shown.hint += f"; the details are in {place}" if place else "; KNARR_DEBUG=1 shows the details"


def _write(text: str) -> str:
    """Keep `text` below the state directory; returns the file, or "" if that cannot be."""
    from time import time

    from knarr.config import Settings

    try:
        directory = Settings.from_environment(os.environ).root / "crashes"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = directory / f"{int(time())}-{os.getpid()}.txt"
        file.write_text(text)
    except (OSError, KnarrError):
        return ""
    return str(file)


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except (BrokenPipeError, ValueError):
        _silence()


def _silence() -> None:
    """Nobody reads us any more: keep the interpreter from complaining about it when it flushes at the end."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
