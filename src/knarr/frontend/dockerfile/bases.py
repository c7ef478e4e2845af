"""What a stage starts from: an image by name, a named context in its place, or nothing.

All images of a build are looked up at once, on threads; a stage then takes its
answer. Named contexts are `docker-image://`, `local:NAME`, a git or a http URL, as
`--build-context` gives them, and go before an image or a stage of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from knarr.errors import ContentError, DockerfileError, KnarrError, NotFound, RegistryError, Unsupported, UsageError
from knarr.frontend.bridge import Bridge, LayoutBridge, NoImage, ResolvedImage
from knarr.frontend.dockerfile.contexts import named_context, normal_name, remote_context
from knarr.frontend.dockerfile.imageconfig import ImageDraft
from knarr.frontend.dockerfile.imagepath import join
from knarr.frontend.dockerfile.platformbuild import PlatformBuild
from knarr.frontend.dockerfile.stagebuild import SCRATCH, StageBuild
from knarr.frontend.dockerfile.suggest import did_you_mean
from knarr.llb.state import Note, State, given, source
from knarr.record import replace
from knarr.scope import Outcome, Scope
from knarr.spec.config import ImageConfig
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

IMAGE_SCHEME = "docker-image://"
LAYOUT_SCHEME = "oci-layout://"
COMMON_IMAGES = ("alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora")

Question = tuple[Reference, Platform]


class BaseImages:
    """Answers about images, each asked once. `ask_ahead` starts asking on the threads of `scope`."""

    def __init__(self, bridge: Bridge, scope: Scope) -> None:
        self.bridge = bridge
        self._scope = scope
        self._asked: dict[Question, Outcome[ResolvedImage]] = {}
        self._known: dict[Question, ResolvedImage] = {}

    def ask_ahead(self, questions: Iterable[Question]) -> None:
        new = dict.fromkeys(q for q in questions if q not in self._asked and q not in self._known)
        if len(new) < 2:
            return  # a thread would only wait for the one that waits for it
        for question in new:
            self._asked[question] = self._scope.attempt(self.bridge.image_config, *question)

    def get(self, reference: Reference, platform: Platform) -> ResolvedImage:
        """The image, asked for once.

        Raises:
            KnarrError: as `Bridge.image_config`.
        """
        question = (reference, platform)
        if question not in self._known:
            asked = self._asked.get(question)
            self._known[question] = asked.result() if asked else self.bridge.image_config(reference, platform)
        return self._known[question]


def question_of(build: PlatformBuild, stage: StageBuild) -> Question | None:
    """Which image has to be looked up for a stage, if any; a name that cannot be one is reported later."""
    context = stage.context or context_for(build, stage.base_name, stage.platform)
    if context is not None and not context.startswith(IMAGE_SCHEME):
        return None
    name = stage.base_name if context is None else context.removeprefix(IMAGE_SCHEME)
    if name == SCRATCH:
        return None
    try:
        return Reference.parse(name).tagged(), stage.platform or build.target
    except (UsageError, ContentError):
        return None


def check_name(build: PlatformBuild, stage: StageBuild) -> None:
    """A base that no image can be called is wrong also where nothing needs the stage.

    Raises:
        DockerfileError: it is one.
    """
    try:
        if stage.base is None and (stage.context is not None or stage.base_name != SCRATCH):
            _reference(stage.base_name)
    except DockerfileError as error:
        raise build.located(error, stage.span) from None


def resolve_base(build: PlatformBuild, stage: StageBuild, images: BaseImages, *, stage_names: Iterable[str]) -> None:
    """Give the stage the state and the image it starts with.

    Raises:
        DockerfileError: no image can have this name.
        NotFound: there is none, with the name that was perhaps meant.
        RegistryError: as the bridge says.
    """
    try:
        _resolve(build, stage, images)
    except KnarrError as error:
        if isinstance(error, NotFound) and not error.hint:
            near = did_you_mean(stage.base_name, [*stage_names, *COMMON_IMAGES])
            error.hint = near or f"no stage is called {stage.base_name}, so it was looked for among images"
        elif isinstance(error, RegistryError) and (near := did_you_mean(stage.base_name, stage_names)):
            error.hint = f"{near} Or else: {error.hint}" if error.hint else near  # no registry is asked for a stage
        raise build.located(error, stage.span) from None
    finally:
        if not stage.registered:
            stage.done = True


def _resolve(build: PlatformBuild, stage: StageBuild, images: BaseImages) -> None:
    platform = stage.platform or build.target
    if stage.context is not None:  # the whole stage is replaced
        stage.state, config = _load(build, stage.context, stage.name, stage, images)
        if config is not None:
            stage.image = ImageDraft.of(config)
            stage.platform = config.platform
        stage.done = True
        return
    if stage.base_name == SCRATCH:
        stage.state, stage.image, stage.platform = State(), ImageDraft.empty(build.target), build.target
        return
    context = context_for(build, stage.base_name, platform)
    if context is not None:  # the image is replaced
        state, config = _load(build, context, normal_name(stage.base_name), stage, images)
        stage.image = ImageDraft.of(config) if config else ImageDraft.empty(platform)
        stage.base_config = config
        stage.state, stage.platform = replace(state, platform=platform), platform
        return
    _from_image(build, stage, platform, images)


def _from_image(build: PlatformBuild, stage: StageBuild, platform: Platform, images: BaseImages) -> None:
    reference = _reference(stage.base_name)
    found = images.get(reference, platform)
    stage.base_config = found.config
    stage.image = ImageDraft.of(found.config)
    if stage.platform is None and build.implicit:
        platform = _retargeted(found.config.platform, platform, build.build_platform)
    if not found.config.diff_ids and all(line.empty_layer for line in found.config.history):
        stage.state = State()
    else:
        pinned = str(found.reference.at(found.digest))
        name = stage.named(build, f"FROM {pinned}", platform=platform)
        note = Note(
            {"llb.customname": name, "com.docker.dockerfile.v1.command": stage.from_text},
            (stage.span,) if stage.span else (),
        )
        mode = build.request.resolve_mode
        # BuildKit has no word for `never`: whoever solves this asks nobody for what it has.
        attrs = {"image.resolvemode": "local" if mode == "never" else mode} if mode != "default" else {}
        actual = found.config.platform
        if (platform.os, platform.architecture) != (actual.os, actual.architecture):
            shown = (actual.in_full, platform.in_full)
            build.lint.report("InvalidBaseImagePlatform", stage.base_name, *shown, span=stage.span)
        stage.state = source(IMAGE_SCHEME + pinned, attrs, platform=platform, note=note)
    stage.platform = platform


def _retargeted(image: Platform, wanted: Platform, worker: Platform) -> Platform:
    """Where no platform was asked for, an image that only exists for the worker's decides."""
    same = (image.os, image.architecture)
    if same != (wanted.os, wanted.architecture) and same == (worker.os, worker.architecture):
        return worker
    return wanted


def _reference(name: str) -> Reference:
    try:
        return Reference.parse(name).tagged()
    except (UsageError, ContentError) as error:
        why = error.message.removeprefix(f"{name!r} is not an image reference: ")
        hint = error.hint or "such as busybox:1.36 or registry.example.com/team/app@sha256:…"
        raise DockerfileError(f"{name} is neither a stage nor the name of an image: {why}", hint=hint) from None


def context_for(build: PlatformBuild, name: str, platform: Platform | None) -> str | None:
    """The named context that stands for `name` on this platform, if there is one."""
    if not build.contexts or name.lower() in (SCRATCH, "context"):
        return None
    plain = normal_name(name)
    return build.contexts.get(f"{plain}::{platform or build.target}", build.contexts.get(plain))


def _load(
    build: PlatformBuild, where: str, name: str, stage: StageBuild, images: BaseImages
) -> tuple[State, ImageConfig | None]:
    """The tree of a named context, and the image config where it has one."""
    scheme, colon, rest = where.partition(":")
    loader = _LOADERS.get("git" if "@" in scheme else scheme)
    if not colon or loader is None:
        raise Unsupported(
            f"build context {name}={where} is of a kind that cannot be used",
            hint="a directory, docker-image://REFERENCE, a git URL or a http(s) URL",
        )
    if f"{name}::{stage.platform or build.target}" in build.contexts:
        name = f"{name}::{stage.platform or build.target}"
    return loader(
        build,
        rest.removeprefix("//") if scheme in ("docker-image", "oci-layout", "local") else where,
        name,
        stage,
        images,
    )


def _load_image(
    build: PlatformBuild, where: str, name: str, stage: StageBuild, images: BaseImages
) -> tuple[State, ImageConfig | None]:
    if where == SCRATCH:
        return State(), None
    platform = stage.platform or build.target
    reference = _reference(where)
    try:
        found = images.get(reference, platform)
    except NoImage as other:  # as a base it could be nothing else, as a context it may be any tree
        return _load(build, other.identifier, name, stage, images)
    note = Note({"llb.customname": f"[context {name}] {where}"})
    state = source(f"{IMAGE_SCHEME}{reference}", platform=platform, note=note)
    return _with_image(state, found.config), found.config


def _load_layout(
    build: PlatformBuild, where: str, name: str, stage: StageBuild, images: BaseImages
) -> tuple[State, ImageConfig | None]:
    store, at, text = where.rpartition("@")
    if not at:
        raise DockerfileError(f'oci-layout reference "{where}" has no digest', hint="write NAME@sha256:…")
    head, colon, tag = store.rpartition(":")
    store = head if colon and "/" not in tag else store
    platform = stage.platform or build.target
    if not isinstance(images.bridge, LayoutBridge):
        raise Unsupported(f"build context {name}: OCI layouts cannot be read here", hint="use docker-image://REFERENCE")
    digest = Digest.parse(text)
    found = images.bridge.layout_config(name, store, digest, platform)
    note = Note({"llb.customname": f"[context {name}] OCI load from client"})
    reference = Reference.parse(name.partition("::")[0]).at(digest)
    state = source(f"{LAYOUT_SCHEME}{reference}", {"oci.store": store}, platform=platform, note=note)
    return _with_image(state, found.config), found.config


def _with_image(state: State, config: ImageConfig) -> State:
    pairs = (pair.partition("=") for pair in config.config.env)
    state = state.with_env(*((key, value) for key, _, value in pairs if key))
    return replace(state, cwd=join("/", config.config.working_dir), platform=config.platform)


def _load_input(
    build: PlatformBuild, where: str, name: str, stage: StageBuild, images: BaseImages
) -> tuple[State, ImageConfig | None]:
    found = build.request.inputs.get(where.removeprefix("input:"))
    if found is None:
        known = ", ".join(sorted(build.request.inputs)) or "none"
        raise UsageError(f"build context {name}={where}: no such input was given", hint=f"given are: {known}")
    state = given(found.graph)
    return (_with_image(state, found.config) if found.config else state), found.config


def _load_local(
    build: PlatformBuild, where: str, name: str, stage: StageBuild, images: BaseImages
) -> tuple[State, ImageConfig | None]:
    from knarr.patterns import parse_ignore

    ignore = images.bridge.read(where, ".dockerignore")
    session = build.request.sessions.get(where, "")
    return named_context(where, name, stage.paths, parse_ignore(ignore) if ignore else (), session=session), None


def _load_git(
    build: PlatformBuild, where: str, name: str, stage: StageBuild, images: BaseImages
) -> tuple[State, ImageConfig | None]:
    state = remote_context(where)
    if state is None:
        raise DockerfileError(f"build context {name}={where} is not a git repository")
    return state, None


def _load_url(
    build: PlatformBuild, where: str, name: str, stage: StageBuild, images: BaseImages
) -> tuple[State, ImageConfig | None]:
    git = remote_context(where)
    if git is not None:
        return git, None
    note = Note({"llb.customname": f"[context {name}] {where}"})
    return source(where, {"http.filename": "context"}, note=note), None


Loader = Callable[[PlatformBuild, str, str, StageBuild, BaseImages], tuple[State, ImageConfig | None]]
_LOADERS: dict[str, Loader] = {
    "docker-image": _load_image,
    "input": _load_input,
    "oci-layout": _load_layout,
    "local": _load_local,
    "git": _load_git,
    "ssh": _load_git,
    "http": _load_url,
    "https": _load_url,
}
