"""What a file asks for, in one form for all: tasks, and what is said about registries."""

from __future__ import annotations

from collections.abc import Mapping

from knarr.image.wholecopy import CopyOptions
from knarr.record import field, record
from knarr.sync.tagfilter import TagFilter

IMAGE, REPOSITORY, REGISTRY = "image", "repository", "registry"
_WHOLE = CopyOptions()


@record
class Limit:
    """How much may be deleted at once: a number of tags, or a part of those that the target has."""

    count: int = 0
    percent: int = 25  # used when `count` is 0

    def allows(self, deletions: int, of: int) -> bool:
        return deletions <= (self.count if self.count else of * self.percent // 100)

    def __str__(self) -> str:
        return f"{self.count} tags" if self.count else f"{self.percent}%"


@record
class RepositoryFilter:
    """Which repositories of a registry; regular expressions for the whole name."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def choose(self, names: list[str]) -> list[str]:
        return TagFilter(allow=self.allow, deny=self.deny).choose(names)


@record
class Task:
    """One source and where it goes. Places are written as on the command line (`registry/name`, `oci:DIR`)."""

    source: str
    targets: tuple[str, ...]
    kind: str = IMAGE
    tags: tuple[TagFilter, ...] = ()
    repositories: RepositoryFilter = RepositoryFilter()
    options: CopyOptions = _WHOLE
    media_types: tuple[str, ...] = ()  # of the image; empty: any
    prune: bool = False
    prune_limit: Limit = Limit()
    backup: str = ""  # a template: where an image goes that is about to be replaced
    every_s: float = 0.0
    cron: str = ""
    quota_min: int = 0  # below so many pulls left, wait
    quota_wait_s: float = 300.0
    recheck_s: float = 3600.0  # how long what was seen of referrers counts, while the digests stay
    where: str = ""  # in the file, for messages

    @property
    def is_scheduled(self) -> bool:
        return bool(self.every_s or self.cron)


@record
class RegistryWish:
    """What a file says about one registry beyond what the user has configured."""

    username: str = ""
    password: str = ""
    insecure: bool = False
    plain_http: bool = False
    ca: tuple[str, ...] = ()  # paths of PEM files
    per_host: int = 0  # transfers at a time; 0: the usual


@record
class SyncFile:
    """A whole file. `notes` are what of it has no effect here."""

    tasks: tuple[Task, ...]
    registries: Mapping[str, RegistryWish] = field(default_factory=dict, hash=False)
    jobs: int = 4  # images at a time
    notes: tuple[str, ...] = ()
