"""RUN's `--mount`: what is mounted where, from which tree.

Spec: Dockerfile reference 1.26, "RUN --mount"; BuildKit's convert_runmount.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.imagepath import base_name, clean, join
from knarr.frontend.dockerfile.instructions import RunMount
from knarr.frontend.dockerfile.platformbuild import PlatformBuild
from knarr.frontend.dockerfile.stagebuild import Line, StageBuild
from knarr.llb import ops
from knarr.llb.state import FileStep, Mount, Note, SecretMount, SSHMount, State

_SHARING = {
    "": ops.CacheSharing.SHARED,
    "shared": ops.CacheSharing.SHARED,
    "private": ops.CacheSharing.PRIVATE,
    "locked": ops.CacheSharing.LOCKED,
}


def mounts_of(build: PlatformBuild, stage: StageBuild, line: Line, mounts: Sequence[RunMount]) -> Iterator[Mount]:
    """The mounts that show a tree: bind, cache and tmpfs. Marks what they use of the tree.

    Raises:
        DockerfileError: a stage that comes later, or a target that cannot be mounted over. No span yet.
    """
    for mount, origin in zip(mounts, line.sources, strict=True):
        if mount.type in ("secret", "ssh"):
            continue
        # A cache begins empty unless it says from what; everything else shows the context.
        from_stage = bool(mount.from_) or mount.type == "cache"
        if from_stage and not origin.done:
            raise DockerfileError(
                f'cannot mount from stage "{mount.from_}" to "{mount.target}", stage needs to be defined before '
                "current command",
                hint="move that stage up",
            )
        tree = State() if mount.type == "tmpfs" else origin.state if from_stage else build.context
        yield _mount(build, stage, mount, tree)
        (origin.paths if from_stage else build.context_paths).add(join("/", mount.source))


def _mount(build: PlatformBuild, stage: StageBuild, mount: RunMount, tree: State) -> Mount:
    target = _target(stage, mount.target)
    selector = join("/", mount.source)
    if selector == "/":
        selector = ""
        if (mount.uid, mount.gid, mount.mode) != (None, None, None):
            tree, selector = _owned(tree, mount), "/cache"
    cache = None
    if mount.type == "cache":
        name = mount.id or clean(mount.target)
        namespace = build.build_args.get("BUILDKIT_CACHE_MOUNT_NS", "")
        cache = ops.CacheOpt(f"{namespace}/{name}", _SHARING[mount.sharing])
    return Mount(
        target,
        tree.output,
        selector,
        mount.readonly,
        discard=mount.type == "bind" and not mount.readonly,
        cache=cache,
        tmpfs=mount.type == "tmpfs",
        tmpfs_size=mount.size_bytes,
    )


def _target(stage: StageBuild, target: str) -> str:
    if not target.startswith("/"):
        target = join("/", stage.state.cwd, target)
    if target == "/":
        raise DockerfileError('invalid mount target "/"', hint="add target=DIRECTORY")
    return target


def _owned(tree: State, mount: RunMount) -> State:
    """A directory with the owner and the mode the cache is to begin with."""
    owner = ops.ChownOpt(ops.UserOpt(mount.uid or 0), ops.UserOpt(mount.gid or 0))
    mode = 0o755 if mount.mode is None else mount.mode & 0o777
    note = Note({"llb.customname": "[internal] setting cache mount permissions"})
    return tree.file([FileStep(ops.MkDir("/cache", mode, owner=owner))], note)


def secret_of(mount: RunMount) -> SecretMount:
    """A secret as a file, or as a variable, or as both where a target is given too."""
    name = mount.source or mount.id or base_name(mount.target)
    target: str | None = mount.target or None
    if mount.env is None and target is None:
        target = "/run/secrets/" + base_name(name)
    mode = 0o400 if mount.mode is None else mount.mode
    return SecretMount(name, target, mount.env, mount.uid or 0, mount.gid or 0, mode, optional=not mount.required)


def ssh_of(mount: RunMount) -> SSHMount:
    if mount.source:
        raise DockerfileError("ssh does not support source", hint="id=NAME says which agent")
    mode = 0o600 if mount.mode is None else mount.mode
    return SSHMount(mount.id, mount.target, mount.uid or 0, mount.gid or 0, mode, optional=not mount.required)
