"""The image config of a stage while its instructions change it, and the history they leave.

`ImageDraft` is the one mutable value of the compiler besides the stage itself; a
stage built FROM another starts with a copy. `finish` gives the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from knarr.spec.config import Healthcheck, History, ImageConfig, RunConfig
from knarr.spec.platform import Platform

HISTORY_COMMENT = "buildkit.dockerfile.v0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ImageDraft:
    """What `knarr.spec.config` has in tuples, in lists and dicts."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.author = ""
        self.user = ""
        self.env: list[str] = []
        self._env_places: dict[str, int] = {}  # the first place of each name in `env`
        self.entrypoint: tuple[str, ...] = ()
        self.cmd: tuple[str, ...] = ()
        self.healthcheck: Healthcheck | None = None
        self.args_escaped = False
        self.exposed_ports: set[str] = set()
        self.volumes: set[str] = set()
        self.working_dir = ""
        self.on_build: list[str] = []
        self.labels: dict[str, str] = {}
        self.stop_signal = ""
        self.shell: tuple[str, ...] = ()
        self.history: list[History] = []

    @classmethod
    def empty(cls, platform: Platform) -> ImageDraft:
        """The image of `FROM scratch`."""
        draft = cls(platform)
        draft.working_dir = "/"
        if platform.os != "windows":
            draft.set_env("PATH", DEFAULT_PATH)
        return draft

    @classmethod
    def of(cls, image: ImageConfig) -> ImageDraft:
        """A draft that starts as `image` is. Members no specification names are not inherited."""
        run, draft = image.config, cls(image.platform)
        draft.author = image.author
        draft.user = run.user
        draft.env = list(run.env)
        for place, (key, _) in enumerate(draft.env_pairs()):
            draft._env_places.setdefault(key, place)
        draft.entrypoint = run.entrypoint or ()
        draft.cmd = run.cmd or ()
        draft.healthcheck = run.healthcheck
        draft.args_escaped = run.args_escaped
        draft.exposed_ports = set(run.exposed_ports)
        draft.volumes = set(run.volumes)
        draft.working_dir = run.working_dir
        draft.on_build = list(run.on_build)
        draft.labels = dict(run.labels)
        draft.stop_signal = run.stop_signal
        draft.shell = run.shell or ()
        draft.history = list(image.history)
        return draft

    def copy(self) -> ImageDraft:
        """The start of a stage FROM this one. Triggers stay behind: they have run, or will, and are cleared."""
        copied = ImageDraft(self.platform)
        copied.__dict__.update(self.__dict__)
        copied.env = list(self.env)
        copied._env_places = dict(self._env_places)
        copied.exposed_ports = set(self.exposed_ports)
        copied.volumes = set(self.volumes)
        copied.on_build = []
        copied.labels = dict(self.labels)
        copied.history = list(self.history)
        return copied

    def has_env(self, key: str) -> bool:
        return key in self._env_places

    def env_pairs(self) -> Iterator[tuple[str, str]]:
        for pair in self.env:
            key, _, value = pair.partition("=")
            yield key, value

    def set_env(self, key: str, value: str) -> None:
        """Set a variable in its place; a new one comes last."""
        place = self._env_places.setdefault(key, len(self.env))
        self.env[place : place + 1] = [f"{key}={value}"]

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
