"""`knarr build`: options → request and session → engine → what the caller asked to see and to have written.

This module imports nothing at its top that a warm build does not need: a build
whose inputs are all unchanged is recognised first (engine/fingerprint).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from knarr.builder import SolveRequest, SolveResult
    from knarr.cli.buildinputs import BuildInputs
    from knarr.cli.buildoptions import BuildOptions
    from knarr.cli.progress.feed import Renderer
    from knarr.config import Settings
    from knarr.session.session import Session


def run(argv: list[str]) -> int:
    """Carry out `knarr build ARGUMENTS`.

    Raises:
        KnarrError: the build failed; nothing half-done remains.
    """
    known = _recall(argv)
    if known is not None:
        return known
    from knarr.cli.buildoptions import parse_options

    options = parse_options(argv, os.environ, os.getcwd())
    if options.help:
        from knarr.cli.buildflags import help_text

        print(help_text())
        return 0
    return _build(options)


def _recall(argv: list[str]) -> int | None:
    """The exit status, if this very build was made before and nothing has changed since."""
    return None


def _build(options: BuildOptions) -> int:
    import time

    from knarr.cli.buildinputs import open_inputs
    from knarr.cli.progress.choose import choose
    from knarr.config import Settings
    from knarr.session.dockerconfig import DockerConfig
    from knarr.session.local import LocalSession

    settings = _for_build(Settings.from_environment(os.environ), options)
    renderer = choose(options.progress, sys.stderr, os.environ)
    started = time.monotonic()
    with open_inputs(options, sys.stdin.buffer, settings.run / "contexts") as inputs:
        session = LocalSession(
            {**options.directories, "context": inputs.context},
            options.secrets,
            DockerConfig.from_environment(os.environ),
            environ=os.environ,
        )
        result = _solve(_request(options, inputs, settings), session, renderer, settings)
    _write_files(options, result)
    _show(options, result, renderer, time.monotonic() - started)
    return 0


def _for_build(settings: Settings, options: BuildOptions) -> Settings:
    """`settings` with what build arguments say otherwise, as they do for BuildKit."""
    from knarr.record import replace

    epoch = options.build_args.get("SOURCE_DATE_EPOCH", "")
    if epoch.isascii() and epoch.isdigit():
        return replace(settings, source_date_epoch=int(epoch))
    return settings


def _request(options: BuildOptions, inputs: BuildInputs, settings: Settings) -> SolveRequest:
    from knarr.builder import SolveRequest
    from knarr.frontend.request import FrontendRequest

    build_args = dict(options.build_args)
    if settings.multi_platform:
        build_args.setdefault("BUILDKIT_MULTI_PLATFORM", "1")
    frontend = FrontendRequest(
        dockerfile=inputs.dockerfile,
        filename=inputs.filename,
        dockerignore=inputs.dockerignore,
        dockerignore_name=inputs.dockerignore_name,
        target=options.target,
        platforms=options.platforms,
        build_args=build_args,
        labels=options.labels,
        contexts=options.contexts,
        no_cache=options.no_cache,
        no_cache_filter=options.no_cache_filter,
        resolve_mode="pull" if options.pull else "default",
        extra_hosts=options.add_hosts,
        network=options.network,
        shm_size_bytes=options.shm_size_bytes,
        ulimits=options.ulimits,
        cgroup_parent=options.cgroup_parent,
        source_date_epoch=settings.source_date_epoch,
        secret_ids=tuple(options.secrets),
    )
    return SolveRequest(frontend, options.exports, name=" ".join(("knarr build", *options.tags, options.context)))


def _solve(request: SolveRequest, session: Session, renderer: Renderer | None, settings: Settings) -> SolveResult:
    from knarr.engine.engine import Engine

    engine = Engine(settings)
    if renderer is None:
        from knarr.progress import Silent

        return engine.solve(request, session, Silent())
    from knarr.cli.progress.feed import Feed

    try:
        with Feed(renderer, sys.stderr.buffer) as feed:
            return engine.solve(request, session, feed)
    finally:
        _warn(renderer)


def _warn(renderer: Renderer) -> None:
    if renderer.for_people and renderer.steps.warnings:
        from knarr.cli.progress.summary import warnings_text

        print(warnings_text(renderer.steps), file=sys.stderr, flush=True)


def _write_files(options: BuildOptions, result: SolveResult) -> None:
    """What `--iidfile` and `--metadata-file` ask for."""
    if options.iidfile:
        _write(options.iidfile, image_id(result).encode())
    if options.metadata_file:
        import json

        _write(options.metadata_file, json.dumps(dict(result.metadata), indent=2).encode())


def image_id(result: SolveResult) -> str:
    """The config digest of a single image; of several, or with more in the index, the digest of the index."""
    digest = result.config_digest or result.digest
    return str(digest) if digest else ""


def _write(path: str, data: bytes) -> None:
    """Put `data` at `path`: all of it or nothing."""
    from knarr.errors import KnarrError

    fresh = f"{path}.{os.getpid()}.tmp"
    try:
        with open(fresh, "wb") as file:
            file.write(data)
        os.replace(fresh, path)
    except OSError as error:
        raise KnarrError(f"{path}: {error.strerror}") from error


def _show(options: BuildOptions, result: SolveResult, renderer: Renderer | None, total_s: float) -> None:
    if options.is_quiet:
        print(image_id(result))
    if renderer is None or not renderer.for_people:
        return
    from knarr.cli.progress.summary import Result, summary_text

    names = str(result.metadata.get("image.name", ""))
    exports = options.exports
    outcome = Result(
        digest=str(result.digest or ""),
        names=tuple(name for name in names.split(",") if name),
        pushed=any(export.attrs.get("push") == "true" for export in exports),
        size_bytes=_size_bytes(result.metadata),
        platforms=tuple(map(str, options.platforms)),
        places=tuple(place for export in exports if (place := export.attrs.get("dest", "")) not in ("", "-")),
    )
    print(summary_text(renderer.steps, outcome, result.timings, total_s), file=sys.stderr)


def _size_bytes(metadata: Mapping[str, object]) -> int:
    return 0
