"""What a target can be given: its arguments with their values, the secrets and SSH agents it wants lent.

A target's own come first, then those of the stages it is built on or copies from;
a name counts once, where it is met first.

Spec: BuildKit's frontend.outline, version 1.0.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from knarr.errors import Span
from knarr.frontend.dockerfile.instructions import Arg, ArgValue, Dockerfile
from knarr.frontend.dockerfile.plan import Plan
from knarr.frontend.dockerfile.platformbuild import PlatformBuild
from knarr.frontend.dockerfile.stagebuild import StageBuild
from knarr.record import record


@record
class Argument:
    """An ARG that the target depends on; `value` is what this build gives it."""

    name: str
    value: str
    description: str
    span: Span


@record
class Lent:
    """A secret or an agent by its ID."""

    name: str
    required: bool
    span: Span


@record
class Outline:
    """What a target can be given, each kind in the order of the file."""

    name: str
    description: str
    args: tuple[Argument, ...]
    secrets: tuple[Lent, ...]
    ssh: tuple[Lent, ...]


T = TypeVar("T", Argument, Lent)


@record
class _Global:
    about: Argument
    needs: frozenset[str]  # the arguments in its default


def outline_of(plan: Plan) -> Outline:
    """The outline of a compiled plan's target."""
    target = plan.target
    stages = list(_with_needs(target))
    globals_ = _globals(plan.build, plan.dockerfile)
    written = next((s for s in plan.dockerfile.stages if s.name == target.name and s.span == target.span), None)
    return Outline(
        target.name,
        written.doc if written else "",
        _first(arg for stage in stages for arg in _arguments(plan.build, stage, globals_)),
        _first(Lent(name, *about) for stage in stages for name, about in stage.secrets.items()),
        _first(Lent(name, *about) for stage in stages for name, about in stage.ssh.items()),
    )


def _with_needs(target: StageBuild) -> Iterator[StageBuild]:
    """The target, its base and that one's, then what it copies from; each once."""
    seen: set[StageBuild] = set()
    open_ = [target]
    while open_:
        stage = open_.pop()
        if stage in seen:
            continue
        seen.add(stage)
        yield stage
        open_ += reversed(stage.needs)
        if stage.base is not None:
            open_.append(stage.base)


def _globals(build: PlatformBuild, dockerfile: Dockerfile) -> dict[str, _Global]:
    """The ARGs before the first FROM, as they are when all have been read."""
    values = dict(build.predefined_args)
    found: dict[str, _Global] = {}
    for line in dockerfile.global_args:
        for arg in line.args:
            value = build.build_args.get(arg.key)
            needs: frozenset[str] = frozenset()
            if value is None and arg.value is not None:
                word = build.expander.word(arg.value, values)
                value, needs = word.text, word.used
                if arg.key in needs:
                    before = found.get(arg.key)
                    needs = needs - {arg.key} | (before.needs if before else frozenset())
            if value is not None:
                values[arg.key] = value
            found[arg.key] = _Global(Argument(arg.key, value or "", arg.doc, line.span), needs)
    return found


def _arguments(build: PlatformBuild, stage: StageBuild, globals_: dict[str, _Global]) -> Iterator[Argument]:
    """The arguments of one stage: those it declares, those its FROM uses, and those their defaults use."""
    own: dict[str, Argument] = {}
    used = set(_from_args(stage))
    declared = [] if stage.context is not None else list(_declared(stage))
    values = stage.args[len(stage.args) - len(declared) :] if declared else []
    for (arg, span), (name, value) in zip(declared, values, strict=True):
        used.add(name)
        imported = arg.value is None and name not in build.build_args and name in build.global_args
        if not imported:
            own[name] = Argument(name, value or "", arg.doc, span)
    open_ = sorted(used)
    while open_:
        name = open_.pop()
        used.add(name)
        if name not in own and name in globals_:
            open_ += globals_[name].needs - used
    yield from own.values()
    yield from (known.about for name, known in globals_.items() if name in used and name not in own)


def _from_args(stage: StageBuild) -> Iterator[str]:
    """A stage on a stage has the arguments of that one's FROM as well; a replaced one has none of its own."""
    while True:
        if stage.context is None:
            yield from stage.from_args
        if stage.base is None:
            return
        stage = stage.base


def _declared(stage: StageBuild) -> Iterator[tuple[ArgValue, Span]]:
    for line in stage.lines:
        if isinstance(line.instruction, Arg):
            for arg in line.instruction.args:
                yield arg, line.span


def _first(found: Iterable[T]) -> tuple[T, ...]:
    by_name: dict[str, T] = {}
    for one in found:
        by_name.setdefault(one.name, one)
    return tuple(sorted(by_name.values(), key=lambda one: one.span.first))
