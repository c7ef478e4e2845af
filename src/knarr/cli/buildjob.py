"""One build from its options to what the caller asked to see and to have written."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from knarr.builder import SolveRequest, SolveResult
from knarr.cli import buildlent as lent
from knarr.cli.builderchoice import quiet_grpc
from knarr.cli.buildinputs import BuildInputs, open_inputs
from knarr.cli.buildoptions import BuildOptions, parse_options
from knarr.cli.buildoutputs import pushes
from knarr.cli.buildrecall import remember
from knarr.cli.interrupt import interrupts
from knarr.cli.progress.choose import choose
from knarr.config import Settings
from knarr.errors import KnarrError
from knarr.frontend.request import FrontendRequest
from knarr.progress import Silent, Sink
from knarr.record import replace
from knarr.scope import Scope
from knarr.snapshot.namespace import take_rights

if TYPE_CHECKING:
    from knarr.builder import Builder
    from knarr.cli.buildvcs import Hints
    from knarr.cli.progress.feed import Renderer
    from knarr.frontend.bridge import Bridge
    from knarr.frontend.dockerfile.syntax import Syntax
    from knarr.frontend.request import PlatformResult
    from knarr.llb.ops import SourceOp
    from knarr.llb.sourcepolicy import SourcePolicy
    from knarr.remote.settings import RegistrySettings
    from knarr.session.session import Session
    from knarr.spec.platform import Platform


def build(options: BuildOptions, argv: list[str]) -> int:
    """Carry out the build that `argv` asked for and return the exit status.

    Raises:
        KnarrError: it failed; nothing half-done remains.
    """
    settings = _for_build(Settings.from_environment(os.environ), options)
    profile = take_rights(os.environ)
    renderer = choose(options.progress, sys.stderr, os.environ)
    if profile is not None and renderer is not None and renderer.for_people:
        print(f"profile {profile.name}: {profile.in_words}", file=sys.stderr, flush=True)
    started = time.monotonic()
    with _builder(options, settings) as builder, _opened(options, settings) as (inputs, session):
        known = _hints(options, inputs)
        result = _solve(builder, _request(options, inputs, settings, known), session, renderer)
    files = _files(options, result)
    for path, data in files.items():
        _write(path, data)
    job = None if options.builder else getattr(builder, "last_job", None)
    if job is not None:
        with suppress(OSError):  # a full disk: the next build looks at everything again
            warned = _warnings(renderer)
            looked_for = (*inputs.looked_for, *(known.looked_at if known else ()))
            remember(argv, options, looked_for, job, result, files, warned=warned)
    _show(options, settings, result, renderer, time.monotonic() - started)
    return 0


@contextmanager
def _builder(options: BuildOptions, settings: Settings) -> Iterator[Builder]:
    """Who builds: this process, or the builder that was chosen."""
    if options.builder:
        quiet_grpc()
        from knarr.cli.buildelsewhere import opened

        with opened(options, settings) as builder:
            yield builder
        return
    from knarr.engine.engine import Engine

    yield Engine(settings, registry_settings=_registry_settings)


def compile_only(argv: list[str]) -> tuple[PlatformResult, ...]:
    """What the Dockerfile of `knarr build ARGUMENTS` compiles to, platform by platform. Nothing is built.

    Raises:
        KnarrError: as a build would.
    """
    from knarr.frontend.dockerfile.compile import compile as compile_dockerfile

    options = parse_options(argv, os.environ, os.getcwd())
    with asked(options) as (request, session), bridge_of(request, session, Silent(), options.source_policies) as bridge:
        return compile_dockerfile(request, bridge).results


@contextmanager
def asked(options: BuildOptions) -> Iterator[tuple[FrontendRequest, Session]]:
    """What a build would ask a frontend, and what it would lend it, for as long as the block lasts."""
    settings = _for_build(Settings.from_environment(os.environ), options)
    with _opened(options, settings) as (inputs, session):
        yield _request(options, inputs, settings).frontend, session


@contextmanager
def bridge_of(
    request: FrontendRequest, session: Session, sink: Sink, policies: tuple[SourcePolicy, ...] = ()
) -> Iterator[Bridge]:
    """Who answers the questions of the frontend that is built in, outside of a build.

    Raises:
        Unsupported: the Dockerfile asks for another frontend.
    """
    from knarr.cli.state import open_parts
    from knarr.engine.bridge import EngineBridge
    from knarr.frontend.dockerfile.syntax import require_standard

    require_standard(request)
    with open_parts(os.environ) as parts:
        yield EngineBridge(parts.images(request.resolve_mode), session, sink, govern=_govern(policies))


def _govern(policies: tuple[SourcePolicy, ...]) -> Callable[[SourceOp, Platform | None], SourceOp] | None:
    if not policies:
        return None
    from knarr.llb.sourcepolicy import evaluate

    return lambda op, platform: evaluate(policies, op)


def ask_image(
    options: BuildOptions, other: Syntax, question: str, request: FrontendRequest, session: Session, sink: Sink
) -> Mapping[str, bytes]:
    """What the frontend's image `other` answers to `question` about the request's Dockerfile.

    Raises:
        KnarrError: it cannot be run, or does not answer.
    """
    from knarr.engine.engine import Engine
    from knarr.engine.othersyntax import answer_with

    settings = _for_build(Settings.from_environment(os.environ), options)
    engine = Engine(settings, registry_settings=_registry_settings)
    scope = Scope()
    with interrupts(scope), engine.open(session, sink, scope=scope, resolve_mode=request.resolve_mode) as job:
        job.governor.policies = options.source_policies
        return answer_with(other, job, request, question)


def ask_elsewhere(
    options: BuildOptions, question: str, request: FrontendRequest, session: Session, sink: Sink
) -> Mapping[str, bytes]:
    """What the frontend of the chosen builder answers to `question` about the request's Dockerfile.

    Raises:
        KnarrError: as a build would.
    """
    quiet_grpc()
    from knarr.cli.buildelsewhere import opened

    settings = replace(Settings.from_environment(os.environ), verify="")  # nothing is used: it is only talked about
    scope = Scope()
    with opened(options, settings) as builder, interrupts(scope):
        return builder.ask(SolveRequest(request), session, sink, question, scope=scope)


@contextmanager
def shown(options: BuildOptions) -> Iterator[Sink]:
    """A sink that shows on standard error what `options` want shown; warnings are told once more at the end."""
    renderer = choose(options.progress, sys.stderr, os.environ)
    try:
        with _progress(renderer) as sink:
            yield sink
    finally:
        if renderer is not None:
            _warn(renderer)


@contextmanager
def _opened(options: BuildOptions, settings: Settings) -> Iterator[tuple[BuildInputs, Session]]:
    """The inputs and the session of a build; a context from standard input lasts as long as the block."""
    with open_inputs(options, sys.stdin.buffer, settings.root) as inputs:
        session = lent.session(options, {**options.directories, "context": inputs.context})
        yield inputs, session


def _for_build(settings: Settings, options: BuildOptions) -> Settings:
    """`settings` with what flags say otherwise, and build arguments as they do for BuildKit."""
    if options.containerd:
        usual = replace(settings.containerd_usual, address=options.containerd)
        settings = replace(settings, containerd=usual, containerd_usual=usual)
    if options.oci_runtime:
        settings = replace(settings, oci_runtime=options.oci_runtime)
    if options.verify is not None:
        settings = replace(settings, verify=options.verify)
    epoch = options.build_args.get("SOURCE_DATE_EPOCH", "")
    if epoch.isascii() and epoch.isdigit():
        return replace(settings, source_date_epoch=int(epoch))
    return settings


def _hints(options: BuildOptions, inputs: BuildInputs) -> Hints | None:
    """Where the context comes from, for who is told."""
    if inputs.remote or ("provenance" not in options.attest and not os.environ.get("BUILDX_GIT_LABELS")):
        return None
    from knarr.cli.buildvcs import hints

    directories = {"context": os.fspath(inputs.context), "dockerfile": os.path.dirname(inputs.filename) or "."}
    return hints(os.fspath(inputs.context), options.file, directories, os.environ)


def _request(
    options: BuildOptions, inputs: BuildInputs, settings: Settings, known: Hints | None = None
) -> SolveRequest:
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
        labels={**(known.labels if known else {}), **options.labels},
        contexts=_contexts(options, inputs),
        no_cache=options.no_cache,
        no_cache_filter=options.no_cache_filter,
        resolve_mode=options.pull,
        extra_hosts=options.add_hosts,
        network=options.network,
        shm_size_bytes=options.shm_size_bytes,
        ulimits=options.ulimits,
        cgroup_parent=options.cgroup_parent,
        resources=options.resources,
        source_date_epoch=settings.source_date_epoch,
    )
    name = " ".join(("knarr build", *options.tags, options.context))
    return SolveRequest(
        frontend,
        options.exports,
        options.allow,
        options.cache_from,
        options.cache_to,
        attest=options.attest,
        tell_provenance=options.tell_provenance,
        hints=known.options if known else {},
        source_policies=options.source_policies,
        name=name,
    )


def _contexts(options: BuildOptions, inputs: BuildInputs) -> Mapping[str, str]:
    contexts = options.contexts
    if options.layouts:
        from knarr.cli.buildlayouts import told

        contexts = {**contexts, **told(options.layouts)}
    return {**contexts, "context": inputs.remote} if inputs.remote else contexts


def _solve(builder: Builder, request: SolveRequest, session: Session, renderer: Renderer | None) -> SolveResult:
    mask = os.umask(0o22)  # the engine sets its own
    os.umask(mask)
    scope = Scope()
    try:
        with interrupts(scope), _progress(renderer) as shown, _traced(shown, request.name) as sink:
            return builder.solve(request, session, sink, scope=scope)
    finally:
        os.umask(mask)
        if renderer is not None:
            _warn(renderer)


def _progress(renderer: Renderer | None) -> AbstractContextManager[Sink]:
    if renderer is None:
        return nullcontext(Silent())
    from knarr.cli.progress.feed import Feed

    return Feed(renderer, sys.stderr.buffer)


def _traced(sink: Sink, name: str) -> AbstractContextManager[Sink]:
    if not any(variable.startswith("OTEL_") for variable in os.environ):
        return nullcontext(sink)
    from knarr.cli.buildtrace import traced

    return traced(sink, name)


def _registry_settings() -> RegistrySettings:
    from knarr.remote.settings import RegistrySettings

    return RegistrySettings.from_environment(os.environ)


def _warn(renderer: Renderer) -> None:
    text = _warnings(renderer)
    if text:
        print(text, file=sys.stderr, flush=True)


def _warnings(renderer: Renderer | None) -> str:
    """The warnings of the build for people; "" when there are none or nobody reads them."""
    if renderer is None or not renderer.for_people or not renderer.steps.warnings:
        return ""
    from knarr.cli.progress.summary import warnings_text

    return warnings_text(renderer.steps)


def _files(options: BuildOptions, result: SolveResult) -> dict[str, bytes]:
    """What `--iidfile` and `--metadata-file` ask for, by path."""
    files = {}
    if options.iidfile:
        files[options.iidfile] = image_id(result).encode()
    if options.metadata_file:
        import json

        files[options.metadata_file] = json.dumps(dict(result.metadata), indent=2).encode()
    return files


def image_id(result: SolveResult) -> str:
    """The config digest of a single image; of several, or with more in the index, the digest of the index."""
    digest = result.config_digest or result.digest
    return str(digest) if digest else ""


def _write(path: str, data: bytes) -> None:
    """Put `data` at `path`: all of it or nothing."""

    fresh = f"{path}.{os.getpid()}.tmp"
    try:
        with open(fresh, "wb") as file:
            file.write(data)
        os.replace(fresh, path)
    except OSError as error:
        raise KnarrError(f"{path}: {error.strerror}") from error


def _show(
    options: BuildOptions, settings: Settings, result: SolveResult, renderer: Renderer | None, total_s: float
) -> None:
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
        pushed=any(map(pushes, exports)),
        size_bytes=_size_bytes(settings, result.metadata),
        platforms=tuple(map(str, options.platforms)),
        places=tuple(place for export in exports if (place := export.attrs.get("dest", "")) not in ("", "-")),
    )
    print(summary_text(renderer.steps, outcome, result.timings, total_s), file=sys.stderr)


def _size_bytes(settings: Settings, metadata: Mapping[str, Any]) -> int:
    """What a registry holds of the image, each blob once; 0 when the store does not have it."""
    described = metadata.get("containerimage.descriptor")
    if not described:
        return 0
    from knarr.content.store import Store
    from knarr.image.successors import walk
    from knarr.spec.descriptor import Descriptor

    try:
        return sum(blob.size for blob in walk(Store(settings.content), Descriptor.from_json(described)))
    except KnarrError:
        return 0
