"""A build that was made before and whose inputs are all unchanged: recognised, checked, and told.

`recall` runs before anything else of `knarr build`, so its imports are the start-up
time of a warm build; `remember` runs after a build and may import what it likes.
What makes a build unchanged is in `engine.fingerprint`.
"""

from __future__ import annotations

import os
import sys

from knarr.engine import fingerprint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from knarr.builder import Export, SolveResult
    from knarr.cli.buildoptions import BuildOptions
    from knarr.engine.job import Job


def recall(argv: list[str]) -> int | None:
    """The exit status, if this command line's last result still stands; its output is then told as well."""
    from knarr.config import state_root

    root = state_root(os.environ)
    file = fingerprint.place(root, argv, os.environ, os.getcwd())
    note = fingerprint.recall(file)
    if note is None or not _agree([*note["tags"].items(), *note["pushed"].items()]):
        return None
    if fingerprint.names_may_have_changed(note):
        if not _are_named(root, note["named"]):
            return None
        fingerprint.names_hold(file, note)
    answer = note["answer"]
    for path, data in answer["files"]:
        fingerprint.rewrite(path, data)
    _write_page(root, answer["page"])
    if answer["told"]:
        sys.stderr.write(answer["told"])
    if answer["printed"]:
        print(answer["printed"])
    return 0


def _write_page(root: str, page: bytes) -> None:
    try:
        fingerprint.rewrite(os.path.join(root, "last-build.json"), page)
    except OSError:
        return  # a full disk: `debug why` will tell of an older build


def _are_named(root: str, named: Mapping[str, str]) -> bool:
    """Whether the own store still knows the result under all of its names."""
    from pathlib import Path

    from knarr.content.store import Store

    store = Store(Path(root, "content"))
    try:
        found = {name: store.names.get(name) for name in named}
    finally:
        store.close()
    return all(known is not None and known.descriptor.digest == named[name] for name, known in found.items())


def _agree(names: list[tuple[str, str]]) -> bool:
    """Whether every reference still leads to its digest, as the registries say now. In doubt: no."""
    if not names:
        return True
    from knarr.errors import KnarrError
    from knarr.remote.probe import head
    from knarr.remote.settings import RegistrySettings
    from knarr.session.dockerconfig import DockerConfig
    from knarr.spec.reference import Reference

    settings = RegistrySettings.from_environment(os.environ)
    logins = DockerConfig.from_environment(os.environ)

    def holds(name: tuple[str, str]) -> bool:
        return head(Reference.parse(name[0]), settings, logins.credentials) == name[1]

    try:
        if len(names) == 1:
            return holds(names[0])
        from knarr.scope import Scope

        with Scope() as scope:
            outcomes = [scope.start(holds, name) for name in names[1:]]
            return holds(names[0]) and all(outcome.result() for outcome in outcomes)
    except KnarrError:
        return False


def remember(
    argv: list[str],
    options: BuildOptions,
    looked_for: Iterable[Path],
    job: Job,
    result: SolveResult,
    files: Mapping[str, bytes],
    *,
    warned: str = "",
) -> None:
    """Note what this build depended on and what it answered, so that `recall` knows it again.

    `looked_for` are the Dockerfile and the ignore files, `files` what the build wrote besides (iidfile …),
    `warned` the warnings it showed: they still hold, and are shown again.
    """
    store = job.world.store
    file = fingerprint.place(os.fspath(job.world.settings.root), argv, os.environ, os.getcwd())
    drive, verify = job.drive, job.world.settings.verify  # signatures are looked at every time
    if drive is None or drive.asked_elsewhere or not job.inputs_are_known or not _is_repeatable(options) or verify:
        fingerprint.forget(file)
        return
    digest = str(result.digest or "")
    names = {name: digest for name in str(result.metadata.get("image.name", "")).split(",") if name}
    pushes = any(map(_pushes, options.exports))
    keeps = any(export.attrs.get("store", "") != "false" for export in options.exports if export.type != "cacheonly")
    wanted = [digest for digest in (result.digest, result.config_digest) if digest is not None]
    fingerprint.remember(
        file,
        paths=sorted(_inputs(looked_for, job)),
        started_ns=job.started_ns,
        tags={name: str(found) for name, found in job.images.tags.items()},
        pushed=names if pushes else {},
        named=names if keeps else {},
        names_file=os.fspath(store.root / "meta.db"),
        blobs=[os.fspath(store.path(digest)) for digest in wanted],
        answer={
            "files": [(os.path.abspath(path), data) for path, data in files.items()],
            "page": drive.diary.page_when_unchanged(f"knarr build {options.context}"),
            "told": "" if options.is_quiet else _told(drive.diary.steps, digest, names, warned, pushed=pushes),
            "printed": str(result.config_digest or result.digest or "") if options.is_quiet else "",
        },
    )


def _pushes(export: Export) -> bool:
    default = "true" if export.type == "registry" else "false"
    return export.attrs.get("push", default) not in ("false", "0")


def _is_repeatable(options: BuildOptions) -> bool:
    """Whether running the same build again can have no other effect than the first run had."""
    from knarr.cli.buildvalues import is_url

    if options.cache_to:  # a cache may have been removed behind our back, and nobody would ask
        return False
    if options.layouts or is_url(options.file) or os.path.isfile(options.context):
        return False  # something is looked up in files that are not watched
    if options.no_cache or options.no_cache_filter or "-" in (options.context, options.file):
        return False
    if options.progress in ("rawjson", "none"):
        return False
    return all(
        export.type in ("image", "registry", "cacheonly") and export.attrs.get("push-by-digest", "false") == "false"
        for export in options.exports
    )


def _inputs(looked_for: Iterable[Path], job: Job) -> set[str]:
    asked = {os.path.abspath(path) for path in looked_for} | job.looked_for
    paths = asked | {os.path.realpath(path) for path in asked}
    if job.drive is not None:
        for hasher in job.drive.hashers.values():
            paths |= hasher.looked_at()
    return paths


def _told(steps: Iterable[str], digest: str, names: Iterable[str], warned: str, *, pushed: bool) -> str:
    lines: list[str] = []
    for number, step in enumerate(steps, 1):
        lines += [f"#{number} {step}", f"#{number} CACHED", ""]
    if warned:
        lines += [warned, ""]
    lines.append("Unchanged since it was last built.")
    lines += [f"  {'pushed' if pushed else 'named'}  {name}" for name in names]
    lines.append(f"  digest  {digest}")
    return "\n".join(lines) + "\n"
