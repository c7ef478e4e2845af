"""What all stages of one platform share while a Dockerfile is compiled: options, arguments, contexts."""

from __future__ import annotations

from collections.abc import Mapping

from knarr.errors import Excerpt, KnarrError, Span, Unsupported, UsageError
from knarr.frontend.dockerfile.contexts import (
    archive_context,
    main_context,
    normal_contexts,
    remote_context,
    subdirectory,
)
from knarr.frontend.dockerfile.expand import Expander
from knarr.frontend.dockerfile.gotext import truth
from knarr.frontend.dockerfile.instructions import Dockerfile
from knarr.frontend.dockerfile.lint import Linter
from knarr.frontend.dockerfile.platformargs import global_args, platform_args, proxy_env
from knarr.frontend.request import FrontendRequest
from knarr.llb.ops import NetMode, ProxyEnv
from knarr.llb.state import State, given
from knarr.record import record
from knarr.regex import later
from knarr.spec.platform import Platform, host_platform

_EPOCH = later(r"[-+]?[0-9]{1,19}")
_MAX_EPOCH = (2**63 - 1) // 10**9  # LLB has nanoseconds
_MULTI_PLATFORM = "BUILDKIT_MULTI_PLATFORM"
_NETWORKS = {"default": NetMode.UNSET, "sandbox": NetMode.UNSET, "none": NetMode.NONE, "host": NetMode.HOST}


@record
class PlatformBuild:
    """What all stages share while the Dockerfile is compiled for one platform."""

    request: FrontendRequest
    target: Platform
    build_platform: Platform
    implicit: bool  # the user named no platform: bases may decide
    multi_platform: bool  # step names carry the platform
    build_args: Mapping[str, str]
    predefined_args: Mapping[str, str]  # the platforms' arguments alone
    global_args: Mapping[str, str]
    contexts: Mapping[str, str]  # named contexts, by normalised name
    context: State  # the main build context
    context_paths: set[str]  # what of it is needed, known at the end
    excludes: tuple[str, ...]  # what of it is hidden, by the ignore file
    expander: Expander
    proxy_env: ProxyEnv | None
    network: NetMode
    created: str | None  # RFC 3339, for history lines; from SOURCE_DATE_EPOCH
    created_ns: int  # the same since 1970, -1 for none
    excerpt: Excerpt
    lint: Linter
    empty_names: dict[int, str]  # by line, what is to be said of a variable there without a value

    def expand(self, word: str, env: Mapping[str, str]) -> str:
        """`word` of the line that is compiled, with its variables put in and its quotes gone.

        Raises:
            DockerfileError: it cannot be expanded. No span yet.
        """
        found = self.expander.word(word, env)
        if found.unset:
            self.lint.unset(found.unset, env)
        if self.lint.span is not None and (empty := found.unset | {name for name in found.used if not env.get(name)}):
            self._note_empty(self.lint.span.first, min(empty), env)
        return found.text

    def _note_empty(self, line: int, name: str, env: Mapping[str, str]) -> None:
        if line not in self.empty_names:
            from knarr.frontend.dockerfile.emptynames import sentence

            self.empty_names[line] = sentence(name, env, self.global_args)

    def located(self, error: KnarrError, span: Span | None) -> KnarrError:
        """`error` with the place it is about, unless it knows a place already, and the names that are empty there."""
        if span is None:
            return error
        empty = self.empty_names.get(span.first, "")
        if empty and error.span is None:
            error.hint = empty  # more to the point than what the part could say
        return error.with_context(span=span, excerpt=self.excerpt)


def platform_build(
    request: FrontendRequest, dockerfile: Dockerfile, target: Platform | None, lint: Linter
) -> PlatformBuild:
    """The settings for `target`, or for the build platform when the user named none.

    Raises:
        DockerfileError: a global ARG that does not expand.
        Unsupported: a context of a kind that is not known here.
        UsageError: a SOURCE_DATE_EPOCH that is no number, an ignore file that cannot be meant.
    """
    worker = request.build_platform or host_platform()
    build_args = dict(request.build_args)
    if request.source_date_epoch is not None:
        build_args.setdefault("SOURCE_DATE_EPOCH", str(request.source_date_epoch))
    expander = Expander(dockerfile.escape)
    stage = request.target or (dockerfile.stages[-1].name if dockerfile.stages else "")
    predefined = platform_args(worker, target or worker, stage=stage, build_args=build_args)
    globals_ = global_args(dockerfile, predefined, build_args, expander)
    epoch = _epoch(build_args.get("SOURCE_DATE_EPOCH", globals_.get("SOURCE_DATE_EPOCH", "")))
    contexts = normal_contexts(request.contexts.items())
    paths: set[str] = set()
    excludes = _excludes(request) if contexts.get("context", "local:").startswith("local:") else ()
    return PlatformBuild(
        request,
        target or worker,
        worker,
        implicit=target is None,
        multi_platform=is_multi_platform(request),
        build_args=build_args,
        predefined_args=predefined,
        global_args=globals_,
        contexts=contexts,
        context=_main_context(request, contexts, paths, excludes),
        context_paths=paths,
        excludes=excludes,
        expander=expander,
        proxy_env=proxy_env(build_args),
        network=_NETWORKS[request.network],
        created=None if epoch is None else _rfc3339(epoch),
        created_ns=-1 if epoch is None else epoch * 10**9,
        excerpt=dockerfile.excerpt,
        lint=lint,
        empty_names={},
    )


def is_multi_platform(request: FrontendRequest) -> bool:
    """Whether the answer is an index: several platforms, or one that was asked to look like it.

    Raises:
        UsageError: BUILDKIT_MULTI_PLATFORM is no truth, or says that several platforms are one.
    """
    asked = request.build_args.get(_MULTI_PLATFORM, "")
    if truth(asked):
        return True
    if asked and truth(asked) is None:
        raise UsageError(f"invalid boolean value for {_MULTI_PLATFORM}: {asked}", hint="1 or 0")
    several = len(request.platforms) > 1
    if asked and several:
        raise UsageError(
            f"{_MULTI_PLATFORM}={asked}, but several platforms are asked for",
            hint="they need an index: leave the argument out, or build one platform",
        )
    return several


def _epoch(value: str) -> int | None:
    if not value:
        return None
    if not _EPOCH.fullmatch(value) or abs(int(value)) > _MAX_EPOCH:
        raise UsageError(
            f"invalid SOURCE_DATE_EPOCH: {value}", hint="a number of seconds since 1970, at most the year 2262"
        )
    return int(value)


def _rfc3339(epoch: int) -> str:
    from datetime import datetime, timedelta  # only for reproducible builds

    return (datetime(1970, 1, 1) + timedelta(seconds=epoch)).isoformat() + "Z"


def _main_context(
    request: FrontendRequest, contexts: dict[str, str], paths: set[str], excludes: tuple[str, ...]
) -> State:
    """The caller's directory, to which alone ignore files apply, or what `contexts` has for `context`."""
    where = contexts.get("context", "local:context")
    if where.startswith("input:"):
        return subdirectory(given(request.inputs[where.removeprefix("input:")].graph), request.context_directory)
    if where.startswith("local:"):
        name = where.removeprefix("local:")
        return main_context(name, paths, excludes, session=request.sessions.get(name, ""))
    # An image that is to be the same again must not have the time of the checkout in its files.
    commit_times = bool(request.build_args.get("SOURCE_DATE_EPOCH"))
    state = remote_context(where, is_main=True, commit_times=commit_times) or archive_context(where)
    if state is None:
        raise Unsupported(
            f"{where} cannot be a build context", hint="a directory, a git URL, or a http(s) URL of a tar"
        )
    return subdirectory(state, request.context_directory)


def _excludes(request: FrontendRequest) -> tuple[str, ...]:
    if request.context_excludes or not request.dockerignore:
        return request.context_excludes
    from knarr.patterns import parse_ignore

    excludes = parse_ignore(request.dockerignore)
    if "!" in excludes:
        lines = tuple(request.dockerignore.decode(errors="replace").splitlines())
        number = next((at for at, line in enumerate(lines, 1) if line.strip() == "!"), 1)
        raise UsageError(
            'illegal exclusion pattern "!"',
            hint="write the path that is not to be left out behind it",
            span=Span(request.dockerignore_name, number, number),
            excerpt=Excerpt(lines),
        )
    return excludes
