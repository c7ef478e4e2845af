"""A sync without news: every tag at the sources and at the targets is what it was when all was the same.

After a run that left nothing to do, `remember` writes down which lists and tags it
looked at and what they said. The same command line then finds the note, and `recall`
asks the same questions, hundreds of tags with a few packets (`remote.heads`). If
every answer is the same, so is the result, and no file is parsed and no plan made.
Any doubt means None, and the sync runs in the ordinary way.

`recall` runs before anything else of `knarr sync`, so its imports are the start-up
time of a mirror that looks for news every minute.
"""

from __future__ import annotations

import marshal
import os
import sys
import time

from knarr.engine import fingerprint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from knarr.remote.access import Access
    from knarr.sync.looked import Looked
    from knarr.sync.task import SyncFile

_FORMAT = 1
_TOGETHER = 16  # repositories asked at a time


def recall(argv: list[str]) -> int | None:
    """The exit status, if nothing has changed since this command line's last run; that is told as well."""
    try:
        with open(_place(argv), "rb") as source:
            note: dict[str, Any] = marshal.loads(source.read())
    except (OSError, ValueError, EOFError, TypeError):
        return None
    if note["format"] != _FORMAT or not note["since"] <= time.time() < note["until"]:
        return None
    if fingerprint.stamp(note["paths"])[0] != note["stamp"] or not _is_all_the_same(note):
        return None
    for text in note["notes"]:
        print(f"note: {text}", file=sys.stderr)
    print(note["told"])
    return 0


def _place(argv: list[str]) -> str:
    from knarr.config import state_root

    return fingerprint.place(state_root(os.environ), ["sync", *argv], os.environ, os.getcwd())


def _is_all_the_same(note: dict[str, Any]) -> bool:
    from knarr.errors import KnarrError
    from knarr.record import replace
    from knarr.remote.access import Access
    from knarr.remote.settings import RegistrySettings
    from knarr.remote.transport import Transport
    from knarr.scope import Scope
    from knarr.session.dockerconfig import DockerConfig

    settings = RegistrySettings.from_environment(os.environ)
    settings = replace(
        settings,
        insecure=frozenset(note["insecure"]),
        plain_http=frozenset(note["plain_http"]),
        extra_ca=tuple(note["ca"]),
    )
    logins = DockerConfig.from_environment(os.environ)
    try:
        with Scope(limit=_TOGETHER) as scope:
            transport = Transport(settings, logins.credentials, scope=scope)
            try:
                found = [
                    scope.start(_is_same, Access(transport, registry, repository, {}), tags, digests)
                    for registry, repository, tags, digests in note["repositories"]
                ]
                return all(outcome.result() for outcome in found)
            finally:
                transport.pool.close()
    except KnarrError:
        return False


def _is_same(access: Access, tags: list[str] | None, digests: dict[str, str]) -> bool:
    """Whether a repository lists `tags` (None: it was not asked for a list) and has `digests` under their names."""
    from knarr.remote.heads import heads

    if tags is not None:
        from knarr.remote import listing

        if sorted(listing.tags(access)) != tags:
            return False
    return heads(access, tuple(digests)) == digests


def remember(
    argv: list[str], path: str, state: str, file: SyncFile, looked: Looked, told: str, started_ns: int
) -> None:
    """Note what a run has looked at that leaves nothing to do, and what the next one has to tell.

    `path` is the sync file and `state` the file of its memory: where one of them changes, everything is looked at.
    """
    note_file = _place(argv)
    files = [os.path.abspath(path), os.path.realpath(path)]
    latest = fingerprint.stamp(files)[1]
    paths = [*files, os.path.abspath(state)]
    wishes = file.registries
    plain = all(not (wish.username or wish.per_host or _in_the_file(wish.ca)) for wish in wishes.values())
    if not (looked.whole and plain) or latest > started_ns - fingerprint.RACY_NS or _has_variables(path):
        fingerprint.forget(note_file)
        return
    note = {
        "format": _FORMAT,
        "paths": paths,
        "stamp": fingerprint.stamp(paths)[0],
        "since": time.time(),
        "until": looked.until,
        "insecure": [host for host, wish in wishes.items() if wish.insecure],
        "plain_http": [host for host, wish in wishes.items() if wish.plain_http],
        "ca": [ca for wish in wishes.values() for ca in wish.ca],
        "notes": list(file.notes),
        "told": told,
        "repositories": [
            (registry, repository, None if tags is None else sorted(tags), digests)
            for (registry, repository), (tags, digests) in looked.repositories.items()
        ],
    }
    os.makedirs(os.path.dirname(note_file), mode=0o700, exist_ok=True)
    fingerprint.rewrite(note_file, marshal.dumps(note))


def _has_variables(path: str) -> bool:
    """Whether the file may mean something else in another environment (regsync's templates)."""
    with open(path, "rb") as file:
        return b"{{" in file.read()


def _in_the_file(certificates: Sequence[str]) -> bool:
    """Whether any is no path but the certificate itself."""
    return any("BEGIN CERTIFICATE" in text for text in certificates)
