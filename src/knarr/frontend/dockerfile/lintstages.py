"""What is doubtful about the stages of a Dockerfile: their names, their bases, how keywords are written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from knarr.errors import ContentError, DockerfileError, UsageError
from knarr.frontend.dockerfile.expand import Expander, Expansion
from knarr.frontend.dockerfile.instructions import Dockerfile, Instruction, Stage
from knarr.frontend.dockerfile.lint import Linter
from knarr.frontend.dockerfile.platformargs import global_args
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

_RESERVED = ("context", "scratch")


def check_stages(lint: Linter, dockerfile: Dockerfile) -> None:
    """Names that are taken, and keywords that are not written as most are."""
    seen: set[str] = set()
    for stage in dockerfile.stages:
        if stage.name in _RESERVED:
            lint.report("ReservedStageName", stage.name, span=stage.span)
        if stage.name in seen:
            lint.report("DuplicateStageName", stage.name, span=stage.span)
        if stage.name:
            seen.add(stage.name)
    _check_casing(lint, dockerfile)


def _check_casing(lint: Linter, dockerfile: Dockerfile) -> None:
    count = {"lower": 0, "upper": 0}
    odd = []
    for instruction in _instructions(dockerfile):
        word = instruction.written
        if word.isupper():
            count["upper"] += 1
        elif word.islower():
            count["lower"] += 1
        if not word.isupper():
            odd.append(instruction)
    if count["lower"] > count["upper"]:
        for instruction in _instructions(dockerfile):
            if not instruction.written.islower():
                lint.report("ConsistentInstructionCasing", instruction.written, "lowercase", span=instruction.span)
        return
    for instruction in odd:
        lint.report("ConsistentInstructionCasing", instruction.written, "uppercase", span=instruction.span)


def _instructions(dockerfile: Dockerfile) -> Iterator[Instruction]:
    for stage in dockerfile.stages:
        yield stage.from_
        yield from stage.instructions


def check_defaults(lint: Linter, dockerfile: Dockerfile, predefined: Mapping[str, str], expander: Expander) -> None:
    """Bases that are no names of images unless a build argument is given."""
    try:
        args = global_args(dockerfile, predefined, {}, expander)
        for stage in dockerfile.stages:
            if not _may_be_image(expander.word(stage.base, args).text):
                lint.report("InvalidDefaultArgInFrom", stage.base, span=stage.span)
    except DockerfileError:
        return  # it will be met again, by those who tell it


def _may_be_image(name: str) -> bool:
    if name.isascii() and name.isalnum() and name.islower() and len(name) < 64:
        return True
    try:
        Reference.parse(name)
    except (UsageError, ContentError):
        return False
    return True


def check_from_args(lint: Linter, word: Expansion, declared: Collection[str]) -> None:
    """Variables of a FROM that no ARG before it declares."""
    for name in sorted(word.unset):
        if name not in declared:
            lint.report("UndefinedArgInFrom", name, lint.guess(name, declared))


def check_platform(lint: Linter, stage: Stage, word: Expansion, args: Mapping[str, str]) -> None:
    """A `--platform` that says what goes without saying, or binds the file to one kind of machine."""
    if word.used == {"TARGETPLATFORM"} and not word.unset and word.text == args.get("TARGETPLATFORM"):
        lint.report("RedundantTargetPlatform", stage.platform)
    if word.used or word.unset:
        return
    try:
        platform = Platform.parse(word.text)
    except UsageError:
        return  # whoever needs the platform says so
    if platform.os not in stage.name and platform.architecture not in stage.name:
        lint.report("FromPlatformFlagConstDisallowed", word.text)


def declared_args(dockerfile: Dockerfile, args: Mapping[str, str]) -> Collection[str]:
    """Every name that a FROM may use: declared, if without a value, or there by itself."""
    return dict.fromkeys([*args, *(arg.key for line in dockerfile.global_args for arg in line.args)])
