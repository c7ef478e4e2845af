"""A stage while it is compiled: what it needs, its state and its image so far, and how its steps are named."""

from __future__ import annotations

from collections.abc import Mapping

from knarr.errors import Span, UsageError
from knarr.frontend.dockerfile.imageconfig import ImageDraft
from knarr.frontend.dockerfile.instructions import Instruction
from knarr.frontend.dockerfile.platformbuild import PlatformBuild
from knarr.llb.state import State
from knarr.record import record
from knarr.spec.config import ImageConfig
from knarr.spec.platform import Platform

SCRATCH = "scratch"


@record
class Line:
    """One instruction of a stage, with the stages it reads from: for RUN one per mount."""

    instruction: Instruction
    span: Span
    sources: tuple[StageBuild, ...] = ()
    on_build: bool = False


class StageBuild:
    """A stage, or an image that a COPY or a mount names: every instruction moves its `state` and its `image`."""

    def __init__(self, base_name: str, span: Span | None = None, *, registered: bool = True) -> None:
        self.base_name = base_name
        self.span = span
        self.registered = registered  # False: no FROM of its own
        self.name = ""  # as written after AS, lower case
        self.title = ""  # in step names; "" where there is only one stage
        self.from_text = ""  # the FROM line
        self.from_args: frozenset[str] = frozenset()  # the global arguments it used
        self.context: str | None = None  # the named context that replaces it
        self.base: StageBuild | None = None
        self.lines: list[Line] = []
        self.needs: dict[StageBuild, Span] = {}  # stages it copies or mounts from, and where
        self.ignore_cache = False
        self.steps = 0  # how many steps will have been named at the end

        self.platform: Platform | None = None
        self.state = State()
        self.image = ImageDraft(Platform("linux", ""))
        self.base_config: ImageConfig | None = None
        self.args: list[tuple[str, str | None]] = []  # ARGs so far, for RUN's history
        self.paths: set[str] = set()  # what of its tree is used; shared with its base
        self.given: dict[str, Span] = {}  # instructions of which the last counts, by keyword, and where
        self.workdir_given = False  # by this file, not by the base image
        self.secrets: dict[str, tuple[bool, Span]] = {}  # lent to a RUN, by ID: whether it is required, and where
        self.ssh: dict[str, tuple[bool, Span]] = {}
        self.step = 0
        self.resolved = False
        self.triggers_read = False
        self.done = False

    def begin(self) -> None:
        """Start from the base stage, where there is one."""
        if self.base is not None:
            self.state = self.base.state
            self.platform = self.base.platform
            self.image = self.base.image.copy()
            self.base_config = self.base.base_config
            self.paths = self.base.paths
            self.workdir_given = self.base.workdir_given

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
            words = f"{platform.in_full}{self._crossing(platform)} {words}"
        return "[" + words

    def _crossing(self, platform: Platform) -> str:
        """`->arm64` in a stage that runs on one platform and says that it builds for another."""
        target = _platform_in(self.state.env, platform)
        if target is None or (target.os, target.architecture) == (platform.os, platform.architecture):
            return ""
        if target.os != platform.os:
            return "->" + target.in_full
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
        {"os": os or default.os, "architecture": (arch or default.architecture).lower(), "variant": variant.lower()}
    )
