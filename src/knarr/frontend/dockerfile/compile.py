"""A Dockerfile and its options to LLB, one graph per platform, and the image config around each.

    result = compile(FrontendRequest(dockerfile=b"FROM busybox\\nRUN date\\n"), bridge)
    result.results[0].graph    # its vertices and the edge it is about

The graph is BuildKit's, vertex by vertex and digest by digest; only the names of
the caller's session are missing from local sources, since they say nothing about
what is built. Nothing is asked but the bridge; images are looked up on threads
that end before `compile` does.

Spec: Dockerfile reference 1.26; BuildKit's frontend/dockerfile/dockerfile2llb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from knarr.errors import KnarrError
from knarr.frontend.bridge import Bridge
from knarr.frontend.dockerfile import filesteps, settings
from knarr.frontend.dockerfile import instructions as df
from knarr.frontend.dockerfile.bases import BaseImages
from knarr.frontend.dockerfile.imageconfig import DEFAULT_PATH
from knarr.frontend.dockerfile.lint import Linter, options_of
from knarr.frontend.dockerfile.lintstages import check_defaults, check_stages
from knarr.frontend.dockerfile.parser import parse
from knarr.frontend.dockerfile.plan import Plan
from knarr.frontend.dockerfile.platformbuild import PlatformBuild, is_multi_platform, platform_build
from knarr.frontend.dockerfile.runstep import compile_run
from knarr.frontend.dockerfile.stagebuild import Line, StageBuild
from knarr.frontend.request import FrontendRequest, FrontendResult, PlatformResult, Warning
from knarr.llb import ops
from knarr.llb.state import given, graph
from knarr.record import replace
from knarr.scope import Scope
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.frontend.scanner import Scanner

_LOOKUPS = 8  # images asked for at a time; each waits for a registry


def compile(
    request: FrontendRequest, bridge: Bridge, *, warnings: list[Warning] | None = None, every_stage: bool = False
) -> FrontendResult:
    """Compile the target for every platform asked for, or for the build platform.

    `warnings` has what was found even when there is no result. With `every_stage`
    what the target does not need is compiled as well, for what may be found there.

    Raises:
        DockerfileError: what is wrong and where, with the lines.
        UsageError: an option that cannot be met: no such target, no such epoch.
        NotFound, RegistryError: a base image, with the line that names it.
        Unsupported: something that exists in the field but not here.
    """
    plans, results = compile_plans(request, bridge, warnings=warnings, every_stage=every_stage)
    build = plans[0].build
    return FrontendResult(
        results,
        tuple(build.lint.warnings),
        multi_platform=is_multi_platform(request),
        empty_names=build.empty_names,
    )


def compile_plans(
    request: FrontendRequest, bridge: Bridge, *, warnings: list[Warning] | None = None, every_stage: bool = False
) -> tuple[list[Plan], tuple[PlatformResult, ...]]:
    """As `compile`, with the stages of each platform as they were at the end."""
    lint = Linter(options_of(request), warnings)
    dockerfile = _parse(request, lint)
    if _may_name_epoch(request, dockerfile):
        from knarr.frontend.dockerfile.epoch import with_epoch

        request = with_epoch(request, dockerfile, bridge)
    with Scope(limit=_LOOKUPS) as scope:
        images = BaseImages(bridge, scope)
        plans: list[Plan] = []
        for target in request.platforms or (None,):
            build = platform_build(request, dockerfile, target, lint if not plans else Linter.deaf())
            check_defaults(build.lint, dockerfile, build.predefined_args, build.expander)
            plans.append(Plan(build, dockerfile, every_stage=every_stage))
        for plan in plans:
            plan.ask_ahead(images)
        results = tuple(_compile_platform(plan, images) for plan in plans)
    return plans, results


def _may_name_epoch(request: FrontendRequest, dockerfile: df.Dockerfile) -> bool:
    """Whether SOURCE_DATE_EPOCH may be the name of a source, and not a number."""
    given = request.build_args.get("SOURCE_DATE_EPOCH")
    if given is not None:
        return bool(given) and not given.isdecimal()
    return any(arg.key == "SOURCE_DATE_EPOCH" for line in dockerfile.global_args for arg in line.args)


def _parse(request: FrontendRequest, lint: Linter) -> df.Dockerfile:
    findings: list[df.Finding] = []
    try:
        dockerfile = parse(request.dockerfile, filename=request.filename, findings=findings)
    finally:
        lint.take(findings)
    check_stages(lint, dockerfile)
    return dockerfile


def _compile_platform(plan: Plan, images: BaseImages) -> PlatformResult:
    build, target = plan.build, plan.target
    for stage in plan.resolve(images):
        if not stage.done:
            _compile_stage(build, stage)
    build.lint.settle()
    target.paths.add("/")
    request = build.request
    source = ops.SourceText(request.filename, request.dockerfile, definition=request.definition)
    made = graph(target.state, platform=build.target, sources=(source,))
    platform = _result_platform(build, target.image.platform)
    result = PlatformResult(
        platform,
        made,
        target.image.finish(platform, build.request.labels),
        target.base_config,
        None if build.created is None else build.created_ns // 10**9,
    )
    return result if request.scanner is None else _with_scans(plan, images, request.scanner, result)


def _with_scans(plan: Plan, images: BaseImages, scanner: Scanner, result: PlatformResult) -> PlatformResult:
    """The result with what its SBOM is to be made of, or with the SBOM of a generator, to be made when it is wanted."""
    from knarr.frontend.dockerfile.scans import ignores_cache, scanned_besides
    from knarr.frontend.scanner import generated

    build, extras = plan.build, scanned_besides(plan)
    if scanner.generator is None:
        graphs = tuple((name, graph(state, platform=build.target)) for name, state in sorted(extras.items()))
        return replace(result, scans=graphs)
    attestation = generated(
        scanner,
        images.bridge,
        given(result.graph),
        {name: given(graph(state, platform=build.target)) for name, state in extras.items()},
        shown=str(result.platform),
        platform=build.build_platform,
        anew=ignores_cache(plan),
    )
    return replace(result, attestations=(attestation,))


def _compile_stage(build: PlatformBuild, stage: StageBuild) -> None:
    stage.begin()
    stage.done = True
    if stage.base is not None:
        stage.args = [*stage.base.args, *stage.args]
    image = stage.image
    if not image.has_env("PATH") and image.platform.os != "windows":
        image.set_env("PATH", DEFAULT_PATH)
    stage.state = stage.state.with_env(*image.env_pairs())
    _enter_image(build, stage)
    for line in stage.lines:
        build.lint.enter(line.span, line.instruction.comments, stage.args)
        try:
            _COMPILERS[type(line.instruction)](build, stage, line, line.instruction)
        except KnarrError as error:
            raise build.located(error, line.span) from None


def _enter_image(build: PlatformBuild, stage: StageBuild) -> None:
    """What the image says about how commands run, before the first instruction."""
    hostname = build.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") or build.request.hostname
    if hostname:
        stage.state = replace(stage.state, hostname=hostname)
    if stage.image.working_dir:
        filesteps.enter(stage, stage.image.working_dir)
    if stage.image.user:
        stage.state = replace(stage.state, user=stage.image.user)
    stage.state = replace(stage.state, network=build.network)


def _result_platform(build: PlatformBuild, image: Platform) -> Platform:
    """What the image is for: as asked, with what the base knows better where only os and architecture were asked."""
    asked = build.target
    if build.implicit:
        return image if image.architecture else asked  # a directory as a base says nothing
    same = (asked.os, asked.architecture) == (image.os, image.architecture)
    return replace(
        asked,
        variant=image.variant if same and not asked.variant else asked.variant,
        os_version=image.os_version if same and not asked.os_version else asked.os_version,
        os_features=asked.os_features or image.os_features,
    )


Compiler = Callable[[PlatformBuild, StageBuild, Line, Any], None]


def _settled(change: Callable[[PlatformBuild, StageBuild, Any], None]) -> Compiler:
    """A compiler out of a function that needs to know nothing of where the line stands."""
    return lambda build, stage, line, instruction: change(build, stage, instruction)


_COMPILERS: dict[type[df.Instruction], Compiler] = {
    df.Run: compile_run,
    df.Copy: filesteps.compile_copy,
    df.Add: filesteps.compile_add,
    df.Workdir: filesteps.compile_workdir,
    df.Env: _settled(settings.compile_env),
    df.Arg: _settled(settings.compile_arg),
    df.Label: _settled(settings.compile_label),
    df.Cmd: _settled(settings.compile_cmd),
    df.Entrypoint: _settled(settings.compile_entrypoint),
    df.Shell: _settled(settings.compile_shell),
    df.Healthcheck: _settled(settings.compile_healthcheck),
    df.Expose: _settled(settings.compile_expose),
    df.Volume: _settled(settings.compile_volume),
    df.User: _settled(settings.compile_user),
    df.StopSignal: _settled(settings.compile_stop_signal),
    df.OnBuild: _settled(settings.compile_on_build),
    df.Maintainer: _settled(settings.compile_maintainer),
}
