"""regsync's YAML, unchanged, as tasks.

What regsync leaves out unless asked, knarr takes along unless told not to:
`referrers: false` and `digestTags: false` count when they are written.

Spec: regclient, docs/regsync.md, as of July 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from knarr.errors import UsageError
from knarr.gotemplate.render import render
from knarr.image.closure import ReferrerFilter, Wanted
from knarr.image.wholecopy import CopyOptions
from knarr.record import replace
from knarr.spec.platform import Platform
from knarr.sync.schedule import check_cron
from knarr.sync.table import Table
from knarr.sync.tagfilter import TagFilter
from knarr.sync.task import IMAGE, REGISTRY, REPOSITORY, RegistryWish, RepositoryFilter, SyncFile, Task

_LEAST_WAIT_S = 300.0  # regsync waits no less for a rate limit
_NO_EFFECT = {
    "hooks": "hooks are not run, as in regsync itself",
    "forceRecursive": "every document is looked at anyway",
}


def parse(data: object, where: str, environ: Mapping[str, str]) -> SyncFile:
    """The tasks of a file that was read as YAML. `environ` serves templates.

    Raises:
        UsageError: something malformed, or newer than what is known.
    """
    root = Table(data, where)
    if root.number("version", 1) > 1:
        raise UsageError(f"{where}: version {root.number('version')} of regsync's form is not known")
    defaults = root.take("defaults") or {}
    own = Table(defaults, f"{where}: defaults")
    functions = _functions(environ)
    registries = dict(_registry(table, functions) for table in root.tables("creds"))
    tasks = [_task(table, defaults, functions) for table in root.tables("sync")]
    notes = [f"{name}: {why}" for name, why in _NO_EFFECT.items() if name in own]
    return SyncFile(tuple(tasks), registries, own.number("parallel", 1) or 1, tuple(notes))


def _functions(environ: Mapping[str, str]) -> Mapping[str, Callable[..., Any]]:
    def file(path: str) -> str:
        try:
            with open(path, encoding="utf-8") as opened:
                return opened.read().strip()
        except OSError as error:
            raise UsageError(f"template: file {path}: {error.strerror}") from error

    return {"env": lambda name: environ.get(name, ""), "file": file}


def _registry(table: Table, functions: Mapping[str, Callable[..., Any]]) -> tuple[str, RegistryWish]:
    def text(name: str) -> str:
        return render(table.text(name), {}, functions)

    host = text("registry")
    if not host:
        raise UsageError(f"{table.where}: registry is needed")
    tls = table.text("tls", "enabled")
    if tls not in ("enabled", "disabled", "insecure", ""):
        raise UsageError(f"{table.where}: tls {tls!r}: not known", hint="use enabled, disabled or insecure")
    for name in ("clientCert", "clientKey", "credHelper", "mirrors", "pathPrefix"):
        if name in table:
            hint = "put it where docker or containerd keep it: certs.d, hosts.toml, config.json"
            raise UsageError(f"{table.where}: {name} is not read from here", hint=hint)
    wish = RegistryWish(
        username=text("user"),
        password=text("pass"),
        insecure=tls == "insecure",
        plain_http=tls == "disabled",
        ca=(text("regcert"),) if "regcert" in table else (),
        per_host=table.number("reqConcurrent"),
    )
    return host, wish


def _task(own: Table, defaults: Any, functions: Mapping[str, Callable[..., Any]]) -> Task:
    scheduled = "interval" in own or "schedule" in own
    shared = {
        name: value for name, value in dict(defaults).items() if not (scheduled and name in ("interval", "schedule"))
    }
    table = Table({**shared, **{name: own.take(name) for name in own.names()}}, own.where)
    given = {name: table.take(name) for name in table.names()}
    source = render(table.text("source"), {"Sync": given}, functions)
    target = render(table.text("target"), {"Sync": {**given, "source": source}}, functions)
    kind = table.text("type", IMAGE)
    if kind not in (IMAGE, REPOSITORY, REGISTRY):
        raise UsageError(f"{table.where}: type {kind!r} is not known", hint="use image, repository or registry")
    if not source or not target:
        raise UsageError(f"{table.where}: source and target are needed")
    filters = [_tags(one) for one in table.tables("tagSets")]
    if "tags" in table:
        filters.append(_tags(table.table("tags")))
    repositories, quota, cron = table.table("repos"), table.table("ratelimit"), table.text("schedule")
    if cron:
        check_cron(cron, table.where)
    task = Task(
        source=source,
        targets=(target,),
        kind=kind,
        tags=tuple(one for one in filters if one != TagFilter()) if kind != IMAGE else (),
        repositories=RepositoryFilter(repositories.texts("allow"), repositories.texts("deny")),
        options=_options(table),
        media_types=table.texts("mediaTypes"),
        backup=table.text("backup"),
        every_s=0.0 if cron else table.seconds("interval"),
        cron=cron,
        quota_min=quota.number("min"),
        quota_wait_s=max(quota.seconds("retry"), _LEAST_WAIT_S),
        where=table.where,
    )
    # fastCheck: equal digests are enough, whatever became of referrers meanwhile.
    return replace(task, recheck_s=float("inf")) if table.flag("fastCheck") else task


def _tags(table: Table) -> TagFilter:
    made = TagFilter(
        allow=table.texts("allow"), deny=table.texts("deny"), versions=tuple(filter(None, table.texts("semverRange")))
    )
    made.check(table.where)
    return made


def _options(table: Table) -> CopyOptions:
    if table.text("referrerSource") or table.text("referrerTarget"):
        raise UsageError(f"{table.where}: referrers in another repository than the image are not supported")
    several = table.texts("platforms")
    one = table.text("platform")
    filters = []
    for item in table.tables("referrerFilters"):
        notes = item.table("annotations")
        filters.append(ReferrerFilter(item.text("artifactType"), {name: notes.text(name) for name in notes.names()}))
    wanted = Wanted(
        platforms=tuple(Platform.parse(text) for text in ((one,) if one else several) if text),
        referrers=table.flag("referrers", True),
        filters=tuple(filters),
        digest_tags=table.flag("digestTags", True),
        sparse=bool(several and not one),  # regsync keeps the index then, and copies those platforms of it
    )
    # `platform` means that one manifest alone, with its own digest.
    return CopyOptions(wanted, "drop" if one else "keep")
