"""skopeo's sync YAML, unchanged, as tasks. Where to is said on the command line, as with skopeo.

Spec: skopeo 1.16, skopeo-sync(1), "YAML file content".
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from knarr.errors import UsageError
from knarr.sync.table import Table
from knarr.sync.tagfilter import TagFilter
from knarr.sync.task import IMAGE, REPOSITORY, RegistryWish, SyncFile, Task

_MEMBERS = ("images", "images-by-tag-regex", "images-by-semver", "credentials", "tls-verify", "cert-dir")


def is_skopeos(data: object) -> bool:
    """Whether a file that was read as YAML has this form: registries, with members that only skopeo's has."""
    if not isinstance(data, dict) or "sync" in data or not data:
        return False
    return all(isinstance(value, dict) and set(map(str, value)) & set(_MEMBERS) for value in data.values())


def parse(data: object, where: str, destinations: tuple[str, ...], *, scoped: bool = False) -> SyncFile:
    """The tasks of a file that was read as YAML, with targets below `destinations`.

    As skopeo: the last part of a source's name goes below the destination, or with
    `scoped` the whole of it with its registry.

    Raises:
        UsageError: malformed, or there is no destination.
    """
    if not destinations:
        raise UsageError(f"{where}: skopeo's form does not say where to", hint="add --to REGISTRY/PATH")
    root = Table(data, where)
    tasks: list[Task] = []
    registries: dict[str, RegistryWish] = {}
    for host in root.names():
        table = root.table(host)
        registries[host] = _registry(table)
        for name, tags, kind in _sources(table):
            source = f"{host}/{name}"
            below = source if scoped else name.rpartition("/")[2]
            for tag in tags if kind == IMAGE else ("",):
                separator = "@" if ":" in str(tag) else ":"
                suffix = f"{separator}{tag}" if tag else ""
                tasks.append(
                    Task(
                        source=f"{source}{suffix}",
                        targets=tuple(f"{to.rstrip('/')}/{below}{suffix}" for to in destinations),
                        kind=kind,
                        tags=()
                        if kind == IMAGE or not tags
                        else tuple(one for one in tags if isinstance(one, TagFilter)),
                        where=f"{where}: {host}: {name}",
                    )
                )
    return SyncFile(tuple(tasks), registries, jobs=4)


def _sources(table: Table) -> Iterator[tuple[str, tuple[str | TagFilter, ...], str]]:
    """Name, tags or filters, and whether single images are named."""
    images = table.table("images")
    for name in images.names():
        tags = images.texts(name)
        yield name, tags, IMAGE if tags else REPOSITORY
    for member in ("images-by-tag-regex", "images-by-semver"):
        named = table.table(member)
        for name in named.names():
            text = named.text(name)
            # skopeo looks for the expression anywhere in the tag.
            made = TagFilter(versions=(text,)) if member.endswith("semver") else TagFilter(allow=(f".*(?:{text}).*",))
            made.check(table.where)
            yield name, (made,), REPOSITORY


def _registry(table: Table) -> RegistryWish:
    login = table.table("credentials")
    directory = table.text("cert-dir")
    ca: tuple[str, ...] = ()
    if directory:
        try:
            ca = tuple(f"{directory}/{name}" for name in sorted(os.listdir(directory)) if name.endswith(".crt"))
        except OSError as error:
            raise UsageError(f"{table.where}: cert-dir {directory}: {error.strerror}") from error
    return RegistryWish(
        username=login.text("username"),
        password=login.text("password"),
        insecure=not table.flag("tls-verify", True),
        ca=ca,
    )
