"""The image config of a stage while its instructions change it, and the history they leave.

`ImageDraft` is the one mutable value of the compiler besides the stage itself; a
stage built FROM another starts with a copy. `finish` gives the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from knarr.spec.config import Healthcheck, History, ImageConfig, RunConfig
from knarr.spec.platform import Platform

HISTORY_COMMENT = "buildkit.dockerfile.v0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class ImageDraft:
    """What `knarr.spec.config` has in tuples, in lists and dicts."""

    platform: Platform
    author: str = ""
    user: str = ""
    env: list[str] = field(default_factory=list)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    exposed_ports: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    working_dir: str = ""
    on_build: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    shell: tuple[str, ...] = ()
    history: list[History] = field(default_factory=list)

    @classmethod
    def empty(cls, platform: Platform) -> ImageDraft:
        """The image of `FROM scratch`."""
        env = [] if platform.os == "windows" else [f"PATH={DEFAULT_PATH}"]
        return cls(platform, working_dir="/", env=env)

    @classmethod
    def of(cls, image: ImageConfig) -> ImageDraft:
        """A draft that starts as `image` is. Members no specification names are not inherited."""
        run = image.config
        return cls(
            image.platform,
            image.author,
            run.user,
            list(run.env),
            run.entrypoint or (),
            run.cmd or (),
            run.healthcheck,
            run.args_escaped,
            set(run.exposed_ports),
            set(run.volumes),
            run.working_dir,
            list(run.on_build),
            dict(run.labels),
            run.stop_signal,
            run.shell or (),
            list(image.history),
        )

    def copy(self) -> ImageDraft:
        """The start of a stage FROM this one. Triggers stay behind: they have run, or will, and are cleared."""
        return replace(
            self,
            env=list(self.env),
            exposed_ports=set(self.exposed_ports),
            volumes=set(self.volumes),
            on_build=[],
            labels=dict(self.labels),
            history=list(self.history),
        )

    def has_env(self, key: str) -> bool:
        return any(name == key for name, _ in self.env_pairs())

    def env_pairs(self) -> Iterator[tuple[str, str]]:
        for pair in self.env:
            key, _, value = pair.partition("=")
            yield key, value

    def set_env(self, key: str, value: str) -> None:
        """Set a variable in its place; a new one comes last."""
        for index, pair in enumerate(self.env):
            if pair.partition("=")[0] == key:
                self.env[index] = f"{key}={value}"
                return
        self.env.append(f"{key}={value}")

    def commit(self, created_by: str, *, layer: bool = False, created: str | None = None) -> None:
        """Add a line of history."""
        self.history.append(History(created, created_by, "", HISTORY_COMMENT, not layer))

    def finish(self, platform: Platform, labels: Mapping[str, str]) -> ImageConfig:
        """The config of the image for `platform`, with the labels of the request over its own."""
        run = RunConfig(
            user=self.user,
            exposed_ports=tuple(sorted(self.exposed_ports)),
            env=tuple(self.env),
            entrypoint=self.entrypoint or None,
            cmd=self.cmd or None,
            healthcheck=self.healthcheck,
            args_escaped=self.args_escaped,
            volumes=tuple(sorted(self.volumes)),
            working_dir=self.working_dir,
            on_build=tuple(self.on_build),
            labels={**self.labels, **labels},
            stop_signal=self.stop_signal,
            shell=self.shell or None,
        )
        return ImageConfig(platform, run, (), tuple(self.history), None, self.author)
