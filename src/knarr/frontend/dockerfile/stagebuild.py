"""A stage while it is compiled: what it needs, its state and its image so far, and how its steps are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from knarr.errors import Span, UsageError
from knarr.frontend.dockerfile.imageconfig import ImageDraft
from knarr.frontend.dockerfile.instructions import Instruction
from knarr.frontend.dockerfile.platformargs import format_platform
from knarr.frontend.dockerfile.platformbuild import PlatformBuild
from knarr.llb.state import State
from knarr.spec.config import ImageConfig
from knarr.spec.platform import Platform

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One instruction of a stage, with the stages it reads from: for RUN one per mount."""

    instruction: Instruction
    span: Span
    sources: tuple[StageBuild, ...] = ()
    on_build: bool = False


@dataclass(slots=True, eq=False)
class StageBuild:
    """A stage, or an image that a COPY or a mount names: every instruction moves its `state` and its `image`.

    `from_text` is the FROM line, "" for an image that is only copied from.
    """

    base_name: str
    span: Span | None = None
    name: str = ""  # as written after AS, lower case
    title: str = ""  # in step names; "" where there is only one stage
    from_text: str = ""
    platform: Platform | None = None
    registered: bool = True  # False: no FROM of its own
    context: str | None = None  # the named context that replaces it
    base: StageBuild | None = None
    lines: list[Line] = field(default_factory=list)
    needs: dict[StageBuild, Span] = field(default_factory=dict)  # stages it copies or mounts from, and where
    resolved: bool = False
    triggers_read: bool = False
    done: bool = False

    state: State = field(default_factory=State)
    image: ImageDraft = field(default_factory=lambda: ImageDraft(Platform("linux", "")))
    base_config: ImageConfig | None = None
    args: list[tuple[str, str | None]] = field(default_factory=list)  # ARGs so far, for RUN's history
    paths: set[str] = field(default_factory=set)  # what of its tree is used; shared with its base
    ignore_cache: bool = False
    cmd_given: bool = False
    steps: int = 0  # how many steps will have been named at the end
    step: int = 0

    def begin(self) -> None:
        """Start from the base stage, where there is one."""
        if self.base is not None:
            self.state = self.base.state
            self.platform = self.base.platform
            self.image = self.base.image.copy()
            self.base_config = self.base.base_config
            self.paths = self.base.paths

    def named(
        self,
        build: PlatformBuild,
        text: str,
        *,
        platform: Platform | None,
        on_build: bool = False,
        again: bool = False,
    ) -> str:
        """The next step's name: `[linux/arm64 build 2/5] RUN make`. `again` keeps the number of the last one."""
        if not self.steps:
            return text
        if not again:
            self.step += 1
        words = f"{self.step:>{len(str(self.steps))}}/{self.steps}] {'ONBUILD ' if on_build else ''}{text}"
        if self.title:
            words = f"{self.title} {words}"
        if build.multi_platform and platform is not None:
            words = f"{format_platform(platform)}{self._crossing(platform)} {words}"
        return "[" + words

    def _crossing(self, platform: Platform) -> str:
        """`->arm64` in a stage that runs on one platform and says that it builds for another."""
        target = _platform_in(self.state.env, platform)
        if target is None or (target.os, target.architecture) == (platform.os, platform.architecture):
            return ""
        if target.os != platform.os:
            return "->" + format_platform(target)
        return "->" + "/".join(part for part in (target.architecture, target.variant) if part)


def _platform_in(env: Mapping[str, str], default: Platform) -> Platform | None:
    """The platform that TARGET… variables name."""
    os = arch = variant = ""
    for key, value in env.items():
        if key == "TARGETPLATFORM":
            try:
                return Platform.parse(value)
            except UsageError:
                continue
        if key == "TARGETOS":
            os = value
        elif key == "TARGETARCH":
            arch = value
        elif key == "TARGETVARIANT":
            variant = value
    if not os and not arch and not variant:
        return None
    return Platform.from_json(
        {"os": os or default.os, "architecture": arch or default.architecture, "variant": variant}
    )
