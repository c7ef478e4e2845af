"""Which stages there are, what each needs, and which are needed: decided before anything is compiled.

`Plan` holds the stages in the order of the file, and behind them the images that
a COPY `--from` or a mount names, each as a stage of its own without instructions.
A stage is found by name without regard to case; of two with one name a FROM sees
the earlier, a COPY the later. Triggers (ONBUILD) of bases come in when the bases
are known, may name further images, and so are taken round by round.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from knarr.errors import DockerfileError, KnarrError, Span, UsageError
from knarr.frontend.dockerfile.bases import BaseImages, check_name, context_for, question_of, resolve_base
from knarr.frontend.dockerfile.instructions import Add, Copy, Dockerfile, Instruction, OnBuild, Run, Stage, Workdir
from knarr.frontend.dockerfile.lintstages import check_from_args, check_platform, declared_args
from knarr.frontend.dockerfile.parser import parse_trigger
from knarr.frontend.dockerfile.platformbuild import PlatformBuild
from knarr.frontend.dockerfile.stagebuild import SCRATCH, Line, StageBuild
from knarr.frontend.dockerfile.suggest import did_you_mean
from knarr.regex import later
from knarr.spec.platform import Platform

_INDEX = later(r"[-+]?[0-9]{1,9}")
_IMAGE_NAME = later(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
_STEPS = (Add, Copy, Run, Workdir)


class Plan:
    """The stages of one Dockerfile for one platform, and the one that was asked for."""

    def __init__(self, build: PlatformBuild, dockerfile: Dockerfile, *, every_stage: bool = False) -> None:
        """`every_stage` resolves also what the target does not need: for a check of the whole file.

        Raises:
            DockerfileError: a base or a platform that is no such thing, a stage that needs itself.
            UsageError: the target is not a stage.
        """
        self.build = build
        self.dockerfile = dockerfile
        self.stages: list[StageBuild] = []
        self._by_name: dict[str, StageBuild] = {}
        self._every_stage = every_stage
        declared = declared_args(dockerfile, build.global_args)
        for stage in dockerfile.stages:
            self._add(self._opened(stage, declared))
        build.lint.leave()
        self.target = self._find_target(build.request.target)
        for opened, stage in zip(list(self.stages), dockerfile.stages, strict=True):
            self._attach(opened, stage)
        _check_circles(build, self.stages)
        if len(self.stages) == 1:
            self.stages[0].title = ""

    def reachable(self) -> list[StageBuild]:
        """What the target needs, itself included, in the order of the file."""
        found = {self.target}
        open_ = [self.target]
        while open_:
            stage = open_.pop()
            for other in (*stage.needs, stage.base):
                if other is not None and other not in found:
                    found.add(other)
                    open_.append(other)
        return [stage for stage in self.stages if stage in found]

    def wanted(self) -> list[StageBuild]:
        """What is to be resolved and compiled, in the order of the file."""
        return list(self.stages) if self._every_stage else self.reachable()

    def ask_ahead(self, images: BaseImages) -> None:
        """Begin to look up the images known so far to be needed."""
        open_ = [stage for stage in self.wanted() if stage.base is None and not stage.resolved]
        images.ask_ahead(q for stage in open_ if (q := question_of(self.build, stage)) is not None)

    def resolve(self, images: BaseImages) -> list[StageBuild]:
        """Give every needed stage its base, and the triggers of bases to the stages built on them.

        Raises:
            KnarrError: as `bases.resolve_base`, or a trigger that cannot be read.
        """
        checked = 0
        while True:
            for stage in self.stages[checked:]:
                check_name(self.build, stage)
            checked = len(self.stages)
            self.ask_ahead(images)
            wanted = self.wanted()
            names = [stage.name for stage in self.stages if stage.name]
            for stage in wanted:
                if stage.base is None and not stage.resolved:
                    stage.resolved = True
                    resolve_base(self.build, stage, images, stage_names=names)
            needs_more = [self._take_triggers(stage) for stage in self.reachable()]
            if not any(needs_more):
                return wanted

    def _opened(self, stage: Stage, declared: Collection[str]) -> StageBuild:
        build, span = self.build, stage.span
        build.lint.enter(span, stage.from_.comments)
        try:
            base = build.expander.word(stage.base, build.global_args)
            check_from_args(build.lint, base, declared)
            if not base.text:
                hint = did_you_mean(min(base.unset, default=""), build.global_args) if base.unset else ""
                raise DockerfileError(
                    f"base name ({stage.base}) should not be blank",
                    hint=hint or "declare it with ARG before the first FROM, with a default or by --build-arg",
                )
            platform, used = _stage_platform(build, stage, declared)
            _check_name(stage)
        except DockerfileError as error:
            raise build.located(error, span) from None
        opened = StageBuild(base.text, span)
        opened.name = stage.name
        opened.title = stage.name or f"stage-{stage.index}"
        opened.from_text = stage.from_.original
        opened.platform = platform
        opened.from_args = base.used | used
        opened.context = context_for(build, stage.name, platform) if stage.name else None
        opened.ignore_cache = _is_uncached(build, stage.name)
        return opened

    def _add(self, stage: StageBuild) -> None:
        self.stages.append(stage)
        if stage.context is None:
            stage.base = self._by_name.get(stage.base_name)
        if stage.name:
            self._by_name[stage.name] = stage

    def _find_target(self, name: str) -> StageBuild:
        if not self.stages:
            raise DockerfileError(
                "dockerfile contains no stages to build",
                hint="the least is one FROM",
                span=Span(self.build.request.filename, 1, 1),
                excerpt=self.build.excerpt,
            )
        if not name:
            return self.stages[-1]
        found = self._by_name.get(name.lower())
        if found is None:
            names = [stage.name for stage in self.stages if stage.name]
            known = f"the stages are {', '.join(names)}" if names else "no stage has a name: write FROM … AS NAME"
            raise UsageError(
                f'target stage "{name}" could not be found', hint=did_you_mean(name, names, ignore_case=True) or known
            )
        return found

    def _attach(self, opened: StageBuild, stage: Stage) -> None:
        """Let a stage have its instructions, and know what they need."""
        if opened.context is not None:
            # Replaced as a whole, and yet its triggers hold for the stages built on it, as in BuildKit.
            opened.lines = [Line(instruction, instruction.span) for instruction in stage.instructions]
            return
        opened.lines = [self._line(opened, instruction, instruction.span) for instruction in stage.instructions]
        opened.steps = sum(isinstance(instruction, _STEPS) for instruction in stage.instructions)
        opened.steps += opened.base is None and opened.base_name != SCRATCH

    def _line(self, stage: StageBuild, instruction: Instruction, span: Span, *, on_build: bool = False) -> Line:
        try:
            sources = tuple(self._sources(instruction, span))
        except KnarrError as error:
            raise self.build.located(error, span) from None
        for source in sources:
            stage.needs[source] = span
        return Line(instruction, span, sources, on_build)

    def _sources(self, instruction: Instruction, span: Span) -> Iterator[StageBuild]:
        if isinstance(instruction, Copy) and instruction.from_:
            yield self._copied_from(instruction.from_, span)
        elif isinstance(instruction, Run):
            for mount in instruction.mounts:
                # A mount without `from` has an empty place of its own: BuildKit
                # counts those as stages, and step names show whether there are several.
                yield self._by_name.get((mount.from_ or SCRATCH).lower()) or self._image(mount.from_ or SCRATCH, None)

    def _copied_from(self, from_: str, span: Span) -> StageBuild:
        if self.build.expander.word(from_, {}).text != from_:
            raise DockerfileError(
                "variable expansion is not supported for --from, "
                "define a new stage with FROM using ARG from global scope as a workaround",
                hint=f"FROM {from_} AS some-name, with ARG before the first FROM",
            )
        if not _INDEX.fullmatch(from_):
            return self._by_name.get(from_.lower()) or self._image(from_, span)
        index = int(from_)
        if not 0 <= index < len(self.stages):
            last = len(self.dockerfile.stages) - 1
            raise DockerfileError(
                f"invalid stage index {index}", hint=f"the stages are 0 to {last}" if last else "the only stage is 0"
            )
        return self.stages[index]

    def _image(self, name: str, span: Span | None) -> StageBuild:
        image = StageBuild(name, span, registered=False)
        self._add(image)
        return image

    def _take_triggers(self, stage: StageBuild) -> bool:
        """Put the triggers of the base in front of the stage's lines. True if they need stages or images."""
        stage.begin()
        triggers, stage.image.on_build = stage.image.on_build, []
        if stage.base is not None and not stage.triggers_read:
            stage.triggers_read = True
            own = (line.instruction for line in stage.base.lines)
            triggers = [i.expression for i in own if isinstance(i, OnBuild)]
        if not triggers or stage.span is None or stage.context is not None:
            return False
        lines = [self._trigger(stage, text, stage.span) for text in triggers]
        stage.lines = lines + stage.lines
        stage.steps += len(lines)
        return any(line.sources for line in lines)

    def _trigger(self, stage: StageBuild, text: str, span: Span) -> Line:
        try:
            instruction = parse_trigger(text)
        except DockerfileError as error:
            # Its own place is in a text the user does not see; FROM is where it comes in.
            raise DockerfileError(
                f"ONBUILD trigger of {stage.base_name}: {error.message}",
                hint=error.hint,
                span=span,
                excerpt=self.build.excerpt,
            ) from None
        return self._line(stage, instruction, span, on_build=True)


def _check_name(stage: Stage) -> None:
    """A stage's name is looked up among named contexts, which are called like images."""
    if stage.name and not _IMAGE_NAME.fullmatch(stage.name):
        raise DockerfileError(
            f'invalid name for build stage: "{stage.from_.name_written}" could not be the name of an image',
            hint="a letter or a digit at the end, and between them one of . _ - at a time",
        )


def _stage_platform(
    build: PlatformBuild, stage: Stage, declared: Collection[str]
) -> tuple[Platform | None, frozenset[str]]:
    """The platform that FROM asks for, and the arguments that say so."""
    if not stage.platform:
        return None, frozenset()
    word = build.expander.word(stage.platform, build.global_args)
    check_from_args(build.lint, word, declared)
    check_platform(build.lint, stage, word, build.global_args)
    guess = did_you_mean(min(word.unset), build.global_args) if word.unset else ""
    if not word.text:
        raise DockerfileError(
            f"empty platform value from expression {stage.platform}",
            hint=guess or "the platform arguments are BUILDPLATFORM and TARGETPLATFORM",
        )
    try:
        return Platform.parse(word.text), word.used
    except UsageError as error:
        message = f"failed to parse platform {stage.platform}: {error.message}"
        raise DockerfileError(message, hint=guess or error.hint) from None


def _is_uncached(build: PlatformBuild, name: str) -> bool:
    request = build.request
    return request.no_cache or name.lower() in (wanted.lower() for wanted in request.no_cache_filter)


def _check_circles(build: PlatformBuild, stages: Sequence[StageBuild]) -> None:
    """No stage may copy or mount from itself, by whatever way round. Iterative: chains can be long."""
    done: set[StageBuild] = set()
    for start in stages:
        path = {} if start in done else {start: iter(start.needs)}  # a dict keeps the order in which it grew
        while path:
            stage = next(reversed(path))
            needed = next(path[stage], None)
            if needed is None:
                del path[stage]
                done.add(stage)
            elif needed in path:
                raise DockerfileError(
                    f"circular dependency detected on stage: {start.title or start.base_name}",
                    hint=_circle([*path], needed) + "a stage can copy from stages before it only",
                    span=stage.needs[needed],
                    excerpt=build.excerpt,
                )
            elif needed not in done:
                path[needed] = iter(needed.needs)


def _circle(path: list[StageBuild], needed: StageBuild) -> str:
    """Who copies from whom, where that takes more than one stage to tell."""
    circle = [stage.title or stage.base_name for stage in path[path.index(needed) :]]
    return f"{' copies from '.join([*circle, circle[0]])}; " if len(circle) > 1 else ""
