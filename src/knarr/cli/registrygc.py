"""`knarr registry gc` and `knarr registry restore`: what no repository needs goes, and comes back while it can."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, no_words, parse, usage
from knarr.errors import KnarrError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knarr.content.store import Store
    from knarr.registry.ledger import Ledger
    from knarr.registry.settings import Retention
    from knarr.spec.digest import Digest

FLAGS = (
    Flag("config", Kind.TEXT, "FILE", "settings in TOML, of which [retention] counts", short="c"),
    Flag("dry-run", Kind.SWITCH, "", "say what would go, and remove nothing"),
    Flag("explain", Kind.TEXT, "DIGEST", "say why a manifest or blob is kept, and remove nothing"),
    Flag("gone", Kind.SWITCH, "", "list what was removed and can still be restored"),
    Flag("grace", Kind.TEXT, "DURATION", "spare what was pushed or looked for so lately (default: 1h)"),
    Flag("undo", Kind.TEXT, "DURATION", "how long what is removed can be restored (default: 24h)"),
    Flag("untagged", Kind.TEXT, "DURATION", "remove manifests without a tag that are so old (default: never)"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr registry gc --help` prints."""
    return (
        "Usage: knarr registry gc [OPTIONS]\n\n"
        "Remove what no repository needs, whether or not a server runs. A tag keeps its manifest, all that is part\n"
        "of it, and all that refers to it: signatures, SBOMs and attestations. What goes is invisible at once and\n"
        "can be had back with `knarr registry restore`; its bytes are freed by a collection after the undo window.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr registry gc ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr registry gc")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr registry gc")
    from knarr.registry import gc

    retention = _retention(given)
    with opened(os.environ) as (store, ledger, roots):
        if given.switch("gone"):
            return _list_gone(ledger)
        if given.text("explain"):
            return _explain(store, ledger, retention, given.text("explain"), roots)
        done = gc.collect(store, ledger, retention, roots=roots, dry_run=given.switch("dry-run"))
    for line in (*done.tags, *done.manifests, *done.blobs):
        print(line)
    print(gc.summary(done, dry_run=given.switch("dry-run")), file=sys.stderr)
    return 0


@contextmanager
def opened(environ: Mapping[str, str]) -> Iterator[tuple[Store, Ledger, Callable[[], Iterable[Digest]]]]:
    """The store, the registry's tables, and what the build cache holds in the store."""
    from knarr.config import Settings
    from knarr.content.store import Store
    from knarr.registry.ledger import Ledger

    settings = Settings.from_environment(environ)
    store = Store(settings.content, durable=True)
    try:
        ledger = Ledger(store)
        try:
            yield store, ledger, lambda: cache_roots(environ)
        finally:
            ledger.close()
    finally:
        store.close()


def cache_roots(environ: Mapping[str, str]) -> list[Digest]:
    """The blobs that the build cache of this state directory needs."""
    from knarr.cache.store import CacheStore
    from knarr.config import Settings
    from knarr.engine.prune import roots_of

    settings = Settings.from_environment(environ)
    path = settings.cache_db
    if not path.exists():
        return []
    cache = CacheStore(path)
    try:
        return roots_of(settings.root, cache.all())
    finally:
        cache.close()


def _retention(given: Parsed) -> Retention:
    from pathlib import Path

    from knarr.record import replace
    from knarr.registry.configfile import load, seconds
    from knarr.registry.settings import ServerSettings

    settings = ServerSettings()
    if given.text("config"):
        settings = load(Path(given.text("config")), settings)
    retention = settings.retention
    for flag in ("grace", "undo", "untagged"):
        if given.text(flag):
            value = seconds(given.text(flag))
            if value is None:
                raise UsageError(f"--{flag}={given.text(flag)}: not a duration", hint="write 90m, 24h or 30d")
            retention = replace(retention, **{f"{flag}_s": value})
    return retention


def _explain(
    store: Store, ledger: Ledger, retention: Retention, text: str, roots: Callable[[], Iterable[Digest]]
) -> int:
    from knarr.registry import gc
    from knarr.spec.digest import Digest

    lines = gc.explain(store, ledger, retention, Digest.parse(text), roots=roots)
    if not lines:
        raise KnarrError(f"no repository has {text}", hint="`knarr registry gc --gone` lists what was removed")
    print("\n".join(lines))
    return 0


def _list_gone(ledger: Ledger) -> int:
    import time

    from knarr.registry import marks

    for repository, tag, digest, since in ledger.read(marks.gone):
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since / 1e9))
        print(f"{moment}  {repository}{f':{tag}' if tag else ''}@{digest}")
    return 0
