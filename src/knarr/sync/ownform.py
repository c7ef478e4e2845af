"""knarr's own form of a sync file, in TOML.

    [[sync]]
    source = "registry.example/team/app"
    targets = ["mirror.corp.example/team/app"]
    tags = { semver = ">=1.2", newest = 5 }
    interval = "6h"

Documented in docs/guide/mirror.md.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.image.closure import ReferrerFilter, Wanted
from knarr.image.reshape import PLACES
from knarr.image.wholecopy import CopyOptions
from knarr.spec.platform import Platform
from knarr.sync.schedule import check_cron
from knarr.sync.table import Table
from knarr.sync.tagfilter import TagFilter
from knarr.sync.task import IMAGE, REGISTRY, REPOSITORY, Limit, RegistryWish, RepositoryFilter, SyncFile, Task

_KINDS = (IMAGE, REPOSITORY, REGISTRY)


def parse(data: object, where: str) -> SyncFile:
    """The tasks of a file that was read as TOML.

    Raises:
        UsageError: a member that is not known, or cannot be meant.
    """
    root = Table(data, where)
    defaults = root.take("defaults") or {}
    tasks = [_task(table, defaults) for table in root.tables("sync")]
    hosts = root.table("registry")
    registries = {host: _registry(hosts.table(host)) for host in hosts.names()}
    jobs = root.number("jobs", 4, least=1)
    root.end()
    if not tasks:
        raise UsageError(f"{where}: there is no [[sync]] in it")
    return SyncFile(tuple(tasks), registries, jobs)


def _task(own: Table, defaults: object) -> Task:
    if not isinstance(defaults, dict):
        raise UsageError(f"{own.where}: defaults must be a table")
    table = Table({**defaults, **{name: own.take(name) for name in own.names()}}, own.where)
    source = table.text("source")
    targets = (*table.texts("target"), *table.texts("targets"))
    if not source or not targets:
        raise UsageError(f"{table.where}: source and targets are needed")
    tags = _tags(table)
    kind = table.text("type") or _kind_of(source)
    if kind not in _KINDS:
        raise UsageError(f"{table.where}: type {kind!r} is not known", hint=f"use one of: {', '.join(_KINDS)}")
    if tags and kind == IMAGE:
        raise UsageError(f"{table.where}: source names one image, so tags have nothing to choose from")
    repositories = table.table("repositories")
    cron = table.text("cron")
    if cron:
        check_cron(cron, table.where)
    task = Task(
        source=source,
        targets=targets,
        kind=kind,
        tags=tags,
        repositories=RepositoryFilter(repositories.texts("allow"), repositories.texts("deny")),
        options=_options(table),
        prune=table.flag("prune"),
        prune_limit=limit(table.text("prune-limit"), table.where),
        backup=table.text("backup"),
        every_s=table.seconds("interval"),
        cron=cron,
        quota_min=table.number("ratelimit-min"),
        quota_wait_s=table.seconds("ratelimit-wait", 300.0),
        recheck_s=table.seconds("recheck", 3600.0),
        where=table.where,
    )
    repositories.end()
    table.end()
    return task


def _kind_of(source: str) -> str:
    """A tag or a digest makes it one image; no slash, a whole registry."""
    name = source.removeprefix("docker://").rstrip("/")
    if "@" in name or (":" in name.rpartition("/")[2] and "/" in name):
        return IMAGE
    return REPOSITORY if "/" in name else REGISTRY


def _tags(table: Table) -> tuple[TagFilter, ...]:
    found = table.take("tags")
    if found is None:
        return ()
    if isinstance(found, list) and all(isinstance(item, str) for item in found):
        return (TagFilter(include=tuple(found)),)
    items = found if isinstance(found, list) else [found]
    filters = []
    for item in items:
        one = Table(item, f"{table.where}: tags")
        made = TagFilter(
            include=one.texts("include"),
            exclude=one.texts("exclude"),
            allow=tuple(f"(?:{pattern})" for pattern in one.texts("regex")),
            deny=tuple(f"(?:{pattern})" for pattern in one.texts("exclude-regex")),
            versions=one.texts("semver"),
            newest=one.number("newest"),
        )
        one.end()
        made.check(one.where)
        filters.append(made)
    return tuple(filters)


def _options(table: Table) -> CopyOptions:
    attestations = table.text("attestations", "keep")
    if attestations not in PLACES:
        raise UsageError(
            f"{table.where}: attestations {attestations!r}: not known", hint=f"use one of: {', '.join(PLACES)}"
        )
    referrers = table.take("referrers")
    filters: list[ReferrerFilter] = []
    if isinstance(referrers, list):
        for item in referrers:
            one = Table({"type": item} if isinstance(item, str) else item, f"{table.where}: referrers")
            notes = one.table("annotations")
            filters.append(ReferrerFilter(one.text("type"), {name: notes.text(name) for name in notes.names()}))
            one.end()
    elif referrers is not None and not isinstance(referrers, bool):
        raise UsageError(f"{table.where}: referrers must be true, false or a list of filters")
    wanted = Wanted(
        platforms=tuple(Platform.parse(text) for text in table.texts("platforms")),
        referrers=referrers is not False,
        filters=tuple(filters),
        digest_tags=table.flag("digest-tags", True),
        sparse=table.flag("sparse"),
    )
    return CopyOptions(
        wanted, attestations, jobs=table.number("transfers", 4, least=1), verify=table.flag("verify", True)
    )


def limit(text: str, where: str) -> Limit:
    """`10` tags or `25%` of them.

    Raises:
        UsageError
    """
    if not text:
        return Limit()
    number = text.removesuffix("%")
    if not (number.isascii() and number.isdigit()) or (text != number and int(number) > 100):
        raise UsageError(f"{where}: prune-limit {text!r}: must be a number of tags, or a part such as 25%")
    return Limit(percent=int(number)) if text != number else Limit(count=int(number))


def _registry(table: Table) -> RegistryWish:
    wish = RegistryWish(
        username=table.text("username"),
        password=_secret(table),
        insecure=table.flag("insecure"),
        plain_http=table.flag("plain-http"),
        ca=table.texts("ca"),
        per_host=table.number("transfers"),
    )
    table.end()
    return wish


def _secret(table: Table) -> str:
    """A password: in a file, or (not advised) in the file itself."""
    path = table.text("password-file")
    if not path:
        return table.text("password")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\r\n")
    except OSError as error:
        raise UsageError(f"{table.where}: password-file {path}: {error.strerror}") from error
