"""SOURCE_DATE_EPOCH by the name of a source: its number is then the time at which the source was made.

The name is `context`, or that of a named context, or of a stage that does nothing
but `ADD` one URL or repository onto scratch.

Spec: BuildKit's frontend/dockerfile/dockerfile2llb/epoch.go at v0.33.
"""

from __future__ import annotations

from collections.abc import Mapping

from knarr.errors import DockerfileError, KnarrError, UsageError
from knarr.frontend.bridge import Bridge, TimeBridge
from knarr.frontend.dockerfile import instructions as df
from knarr.frontend.dockerfile.contexts import normal_contexts, normal_name
from knarr.frontend.dockerfile.copysource import file_name
from knarr.frontend.dockerfile.expand import Expander
from knarr.frontend.dockerfile.giturl import parse_git_url
from knarr.frontend.dockerfile.platformargs import global_args, platform_args
from knarr.frontend.request import FrontendRequest
from knarr.llb.ops import SourceOp
from knarr.record import replace
from knarr.regex import later
from knarr.spec.platform import host_platform

NAME = "SOURCE_DATE_EPOCH"
_NUMBER = later(r"-?[0-9]+")
_HTTP = ("http://", "https://")


def with_epoch(request: FrontendRequest, dockerfile: df.Dockerfile, bridge: Bridge) -> FrontendRequest:
    """`request` with a number in place of a name; with nothing, where nobody knows when that source was made.

    Raises:
        UsageError: there is no such source.
        DockerfileError: a stage of that name does more than to ADD one.
        KnarrError: the source cannot be reached.
    """
    args = _global_args(request, dockerfile)
    value = args.get(NAME, "")
    if not value or _NUMBER.fullmatch(value):
        return request
    op = _source(value, request, dockerfile, {name: text for name, text in args.items() if name != NAME})
    seconds = None if op is None else _asked(bridge, op)
    return replace(request, build_args={**request.build_args, NAME: "" if seconds is None else str(seconds)})


def _global_args(request: FrontendRequest, dockerfile: df.Dockerfile) -> dict[str, str]:
    build_args = dict(request.build_args)
    if request.source_date_epoch is not None:
        build_args.setdefault(NAME, str(request.source_date_epoch))
    if NAME in build_args and _NUMBER.fullmatch(build_args[NAME] or "0"):
        return {NAME: build_args[NAME]}  # nearly always: nothing need be expanded
    if NAME not in build_args and not any(arg.key == NAME for line in dockerfile.global_args for arg in line.args):
        return {}
    worker = request.build_platform or host_platform()
    predefined = platform_args(worker, worker, stage=request.target, build_args=build_args)
    found = global_args(dockerfile, predefined, build_args, Expander(dockerfile.escape))
    return {**found, NAME: build_args[NAME]} if NAME in build_args else found


def _asked(bridge: Bridge, op: SourceOp) -> int | None:
    if not isinstance(bridge, TimeBridge):
        raise UsageError(f"{NAME}: when a source was made cannot be found out here", hint="give a number of seconds")
    return bridge.source_time(op)


def _source(name: str, request: FrontendRequest, dockerfile: df.Dockerfile, args: Mapping[str, str]) -> SourceOp | None:
    """The source that `name` means; None for one of which nobody knows the time."""
    contexts = normal_contexts(request.contexts.items())
    if name == "context":
        return _remote(contexts.get("context", ""), is_main=True)
    if normal_name(name) in contexts:
        return _remote(contexts[normal_name(name)])
    for stage in dockerfile.stages:
        if stage.name == name.lower() and stage.name:
            try:
                return _added(stage, request, dockerfile, args)
            except KnarrError as error:
                raise error.with_context(span=stage.from_.span, excerpt=dockerfile.excerpt) from None
    raise UsageError(
        f"invalid {NAME}: {name}",
        hint="a number of seconds since 1970, or the name of a context, or of a stage that ADDs one URL",
    )


def _remote(where: str, *, is_main: bool = False) -> SourceOp | None:
    url = parse_git_url(where, as_context=is_main)
    if url is not None:
        return SourceOp(url.identifier, url.attrs)
    return SourceOp(where, {"http.filename": "context"}) if where.startswith(_HTTP) else None


def _added(stage: df.Stage, request: FrontendRequest, dockerfile: df.Dockerfile, args: Mapping[str, str]) -> SourceOp:
    """The source of a stage that is there for it alone."""
    expander, env = Expander(dockerfile.escape), dict(args)
    if expander.word(stage.from_.base, env).text != "scratch":
        raise _no_source(stage, "stage must use FROM scratch")
    adds = []
    for line in stage.instructions:
        if isinstance(line, df.Arg):
            for arg in line.args:
                given = request.build_args.get(arg.key)
                default = None if arg.value is None else expander.word(arg.value, env).text
                if given is not None or default is not None:
                    env[arg.key] = given if given is not None else default or ""
        elif isinstance(line, df.Add):
            adds.append(line)
        else:
            why = f"stage does not meet source-only requirements: unsupported {line.keyword} instruction"
            raise _no_source(stage, why)
    if len(adds) != 1:
        raise _no_source(stage, "stage must contain exactly one remote ADD")
    if len(adds[0].sources) != 1 or adds[0].heredocs:
        raise _no_source(stage, "stage must contain exactly one remote ADD source")
    where = expander.word(adds[0].sources[0], env).text
    checksum = expander.word(adds[0].checksum, env).text
    if parse_git_url(where) is None and not where.startswith(_HTTP):
        raise _no_source(stage, "stage source must be a single HTTP(S) or Git ADD")
    return _of_add(where, checksum, keep_git_dir=bool(adds[0].keep_git_dir))


def _no_source(stage: df.Stage, why: str) -> DockerfileError:
    hint = f"the time is that of the URL or repository which stage {stage.name} ADDs: it has that one ADD, and ARG"
    return DockerfileError(f"{NAME} {why}", hint=hint)


def _of_add(where: str, checksum: str, *, keep_git_dir: bool) -> SourceOp:
    url = parse_git_url(where)
    if url is not None:
        kept = url.keep_git_dir or keep_git_dir
        url = replace(url, checksum=checksum or url.checksum, keep_git_dir=kept, mtime="")
        return SourceOp(url.identifier, url.attrs)
    attrs = {"http.filename": file_name(where)}
    return SourceOp(where, {**attrs, "http.checksum": checksum} if checksum else attrs)
