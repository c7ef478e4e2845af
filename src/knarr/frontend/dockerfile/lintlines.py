"""What is doubtful about an instruction of a stage, seen when its variables are known.

Each function is called where the instruction is compiled, in BuildKit's order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from knarr.frontend.dockerfile.instructions import CommandLine, Instruction, KeyValue
from knarr.frontend.dockerfile.lint import Linter
from knarr.patterns import Matcher, clean
from knarr.regex import later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.frontend.dockerfile.stagebuild import StageBuild

_SECRET = later(r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE)
_HARMLESS = later(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_EVERYTHING = ("*", "**", "**/*")


def check_pairs(lint: Linter, line: Instruction, written: Sequence[KeyValue], keys: Iterable[str]) -> None:
    """ENV and LABEL; `keys` have their variables put in."""
    secrets = line.keyword == "ENV"
    for pair, key in zip(written, keys, strict=True):
        if pair.legacy:
            lint.report("LegacyKeyValueFormat", line.written)
        if secrets:
            check_secret(lint, "ENV", key)


def check_secret(lint: Linter, keyword: str, key: str) -> None:
    """A name that sounds as if its value were nobody's business: it would be in the image for everybody."""
    if _SECRET.search(key) and not _HARMLESS.search(key):
        lint.report("SecretsUsedInArgOrEnv", keyword, key)


def check_once(lint: Linter, stage: StageBuild, line: Instruction) -> None:
    """An instruction of which the last one counts; the place is that of the one before, which does not."""
    before = stage.given.get(line.keyword)
    if before is not None:
        lint.report("MultipleInstructionsDisallowed", line.written, span=before)


def check_form(lint: Linter, stage: StageBuild, line: Instruction, command: CommandLine) -> None:
    """A shell between the engine and the command keeps signals from it, unless SHELL shows that one is wanted."""
    if command.shell and not stage.image.shell:
        lint.report("JSONArgsRecommended", line.written)


def check_workdir(lint: Linter, stage: StageBuild, path: str) -> None:
    """The first WORKDIR of a file, where it depends on what the base image has."""
    if not stage.workdir_given and not _is_absolute(path, stage.platform.os if stage.platform else "linux"):
        lint.report("WorkdirRelativePath", path)


def _is_absolute(path: str, os: str) -> bool:
    if os != "windows":
        return path.startswith("/")
    return path[:1] in ("/", "\\") or (path[1:2] == ":" and path[2:3] in ("/", "\\"))


def check_port(lint: Linter, word: str) -> None:
    """One word of EXPOSE."""
    *host, last = word.rsplit(":", 2)
    protocol = last.partition("/")[2]
    if protocol != protocol.lower():
        lint.report("ExposeProtoCasing", word)
    if any(host):
        lint.report("ExposeInvalidFormat", word)


def check_ignored(lint: Linter, verb: str, sources: Iterable[str], excludes: tuple[str, ...]) -> None:
    """Sources that the ignore file hides. With exceptions in it nothing can be said without looking."""
    if any(pattern.startswith("!") for pattern in excludes):
        return
    for source in sources:
        path = clean(source)
        if path in (".", "/") and not any(pattern in _EVERYTHING for pattern in excludes):
            continue
        if _matcher(excludes).matches(path):
            lint.report("CopyIgnoredFile", verb, path)


@lru_cache(maxsize=1)
def _matcher(patterns: tuple[str, ...]) -> Matcher:
    return Matcher(patterns)
