"""Which stage a name means, and which stages a target needs. Pure: works on parsed records.

A name in FROM, `COPY --from` or `--mount from` first means a stage, of several
with that name the nearest one above, and only then an image. A number in
`COPY --from` is always the index of a stage. Only stages above can be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from knarr.errors import DockerfileError, Span
from knarr.frontend.dockerfile.expand import process_word
from knarr.frontend.dockerfile.instructions import Copy, Dockerfile, Run, Stage
from knarr.frontend.dockerfile.suggest import did_you_mean
from knarr.record import record

_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")


@record
class Need:
    """One stage that another stage reads: by FROM (`base`) or by a COPY or a mount."""

    stage: int
    base: bool = False


def find_stage(stages: Sequence[Stage], name: str, *, before: int) -> int | None:
    """The index of the last stage called `name` among the first `before`, or None. Case does not matter."""
    wanted = name.lower()
    for index in range(min(before, len(stages)) - 1, -1, -1):
        if wanted and stages[index].name == wanted:
            return index
    return None


def copy_source(stages: Sequence[Stage], copy: Copy, *, index: int) -> int | None:
    """The stage that a `COPY --from` of stage `index` reads; None when it names an image or nothing.

    Raises:
        DockerfileError: a variable in the name, or a stage that is not above.
    """
    name = copy.from_
    if process_word(name, {}) != name:
        raise DockerfileError(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global "
            "scope as a workaround",
            span=copy.span,
            hint=f"FROM {name} AS some-name, then --from=some-name",
        )
    if not _NUMBER.fullmatch(name):
        return _source(stages, name, index, f'cannot copy from stage "{name}"', copy.span)
    number = int(name)
    if not 0 <= number < len(stages):
        raise DockerfileError(f"invalid stage index {number}", hint="the first stage is 0", span=copy.span)
    if number >= index:
        raise _not_above(f'cannot copy from stage "{name}"', stages[index], copy.span)
    return number


def mount_sources(stages: Sequence[Stage], run: Run, *, index: int) -> list[int | None]:
    """For every mount of a RUN in stage `index` the stage that it reads; None when it names an image or nothing.

    Raises:
        DockerfileError: a stage that is not above.
    """
    return [
        _source(stages, mount.from_, index, f'cannot mount from stage "{mount.from_}"', run.span)
        for mount in run.mounts
    ]


def find_target(file: Dockerfile, target: str) -> int:
    """The index of the stage to build: by name, by index, or the last one for "".

    Raises:
        DockerfileError: the file has no stage, or none that is called so.
    """
    stages = file.stages
    if not stages:
        raise DockerfileError("no stages in the Dockerfile: it has no FROM", excerpt=file.excerpt)
    if not target:
        return len(stages) - 1
    found = find_stage(stages, target, before=len(stages))
    if found is None and _NUMBER.fullmatch(target) and 0 <= int(target) < len(stages):
        found = int(target)
    if found is not None:
        return found
    names = stage_names(stages)
    hint = did_you_mean(target.lower(), names)
    if not hint:
        hint = "the stages are " + ", ".join(names) if names else "no stage has a name"
    last = stages[-1].span
    raise DockerfileError(f'target stage "{target}" could not be found', hint=hint, span=last, excerpt=file.excerpt)


def stage_names(stages: Sequence[Stage]) -> list[str]:
    """The names of all stages that have one, in order, each once."""
    return list(dict.fromkeys(stage.name for stage in stages if stage.name))


def needs(stages: Sequence[Stage], index: int, *, base: str | None = None) -> tuple[Need, ...]:
    """The stages that stage `index` reads directly, in the order of its lines.

    `base` is the base name with its variables expanded; the text as written is
    taken when it is None.

    Raises:
        DockerfileError: a stage that is not above is read.
    """
    stage = stages[index]
    found = []
    parent = find_stage(stages, stage.base if base is None else base, before=index)
    if parent is not None:
        found.append(Need(parent, base=True))
    for instruction in stage.instructions:
        if isinstance(instruction, Copy):
            read = [copy_source(stages, instruction, index=index)]
        elif isinstance(instruction, Run):
            read = mount_sources(stages, instruction, index=index)
        else:
            continue
        found.extend(Need(source) for source in read if source is not None)
    return tuple(found)


def reachable(stages: Sequence[Stage], target: int, *, bases: Mapping[int, str] | None = None) -> frozenset[int]:
    """All stages that building stage `target` needs, itself included.

    `bases` has the expanded base names by stage index, for those that have variables.
    """
    wanted = {target}
    todo = [target]
    while todo:
        index = todo.pop()
        for need in needs(stages, index, base=(bases or {}).get(index)):
            if need.stage not in wanted:
                wanted.add(need.stage)
                todo.append(need.stage)
    return frozenset(wanted)


def _source(stages: Sequence[Stage], name: str, index: int, complaint: str, span: Span) -> int | None:
    found = find_stage(stages, name, before=index)
    if found is None and find_stage(stages, name, before=len(stages)) is not None:
        raise _not_above(complaint, stages[index], span)
    return found


def _not_above(complaint: str, stage: Stage, span: Span) -> DockerfileError:
    current = stage.name or f"stage-{stage.index}"
    return DockerfileError(f'{complaint}, it needs to be defined before current stage "{current}"', span=span)
