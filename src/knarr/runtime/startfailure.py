"""Why a container did not start, in the runtime's own words and with a way out."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from knarr.errors import RuntimeFailed
from knarr.regex import later

_TIME = later(r"^\d{4}-\d\d-\d\dT\S+ ")  # newer crun begins its lines with it


def runtime_words(bundle: str, last_words: bytes, args: Sequence[str]) -> str:
    """The runtime's own words about why the container did not start; empty when it did.

    They are in its log, except when the very last thing failed, executing the
    program: the log is then out of reach, and they are what stderr ends with.
    """
    words = []
    for line in _lines(Path(bundle, "log")):
        try:
            entry = json.loads(line)
            if entry.get("level") in ("error", "fatal"):
                words.append(str(entry.get("msg", "")))
        except ValueError:  # crun's, as text: only errors are logged
            words.append(_TIME.sub("", line))
    last = _TIME.sub("", last_words.decode(errors="replace").strip().rpartition("\n")[2])
    name = os.path.basename(args[0]) if args else ""
    if not words and (last.startswith("exec container process") or re.match(rf"exec /\S*\b{re.escape(name)}: ", last)):
        words.append(last)
    return "; ".join(dict.fromkeys(filter(None, words)))


def proot_words(last_words: bytes) -> str:
    """The same of proot, which has no log: it says on stderr what it did not find, where, and how to get help."""
    first, _, last = last_words.decode(errors="replace").strip().rpartition("\n")
    if not last.startswith("fatal error: see `proot"):
        return ""
    return first.rpartition("\n")[2].removeprefix("proot error: ").partition(" (root = ")[0]


def could_not_start(program: str, words: str, args: Sequence[str]) -> RuntimeFailed:
    """The error for a container that did not start; `program` is crun or runc."""
    lower = words.lower()
    first = args[0] if args else ""
    hint, status = "", 0
    if "exec format error" in lower:
        status = 126
        hint = f"{first} is built for another platform, or is a script without #! line"
    elif (
        "executable file" in lower
        or lower == f"'{first.lower()}' not found"
        or ("no such file" in lower and _about(words, first))
    ):
        status = 127
        hint = f"the image has no {first} (on PATH); a command in shell form needs /bin/sh, which scratch has not"
    elif "permission denied" in lower and (_about(words, first) or "executable" in lower):
        status = 126
        hint = f"{first} is not executable for the user of this step"
    elif "is a directory" in lower or "executable: operation not permitted" in lower:  # runc's words, and crun's
        status = 126
        hint = f"{first} is a directory"
    failure = RuntimeFailed(f"{program}: {words}", hint=hint)
    failure.program_status = status
    return failure


def exec_status(last_words: bytes) -> int:
    """The status of a further process that `exec` could not start, as shells have it; 255 when that was not the reason.

    The words are crun's (1.8) and runc's (1.1), which both end with 255.
    """
    last = _TIME.sub("", last_words.decode(errors="replace").strip().rpartition("\n")[2]).lower()
    if last.startswith("executable file ") or ("exec failed" in last and ("not found" in last or "no such" in last)):
        return 127
    if last.startswith(("open executable:", "exec ")) or "exec failed" in last:
        return 126
    return 255


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _about(words: str, first: str) -> bool:
    return bool(first) and os.path.basename(first) in words
