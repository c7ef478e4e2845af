"""Which stage a name means, and which stages a target needs. Pure: works on parsed records.

A name in FROM, `COPY --from` or `--mount from` first means a stage *above* it,
the nearest one when several share the name, and only then an image. In `--from`
a number means the stage with that index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.instructions import Copy, Dockerfile, Run, Stage
from knarr.frontend.dockerfile.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
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


def find_from(stages: Sequence[Stage], name: str, *, before: int) -> int | None:
    """As `find_stage`, for `COPY --from` and `--mount from`, where a number is an index too."""
    found = find_stage(stages, name, before=before)
    if found is not None:
        return found
    index = int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else -1
    return index if 0 <= index < min(before, len(stages)) else None


def find_target(file: Dockerfile, target: str) -> int:
    """The index of the stage to build: by name, by number, or the last one for "".

    Raises:
        DockerfileError: the file has no stage, or none that is called so.
    """
    stages = file.stages
    if not stages:
        raise DockerfileError("no stages in the Dockerfile: it has no FROM", excerpt=file.excerpt)
    if not target:
        return len(stages) - 1
    found = find_from(stages, target, before=len(stages))
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
    """
    stage = stages[index]
    found = []
    parent = find_stage(stages, stage.base if base is None else base, before=index)
    if parent is not None:
        found.append(Need(parent, base=True))
    for instruction in stage.instructions:
        if isinstance(instruction, Copy):
            sources = (instruction.from_,)
        elif isinstance(instruction, Run):
            sources = tuple(mount.from_ for mount in instruction.mounts)
        else:
            continue
        for source in sources:
            read = find_from(stages, source, before=index)
            if read is not None:
                found.append(Need(read))
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
