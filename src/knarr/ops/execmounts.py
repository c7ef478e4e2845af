"""The mounts of a process: its root, what it sees of other results, and what the caller lends it.

Semantics: build.md §1.6. The root is an active snapshot on the first input; a
read-only bind shows an input's tree; a writable bind without an output is thrown
away afterwards; caches, tmpfs and secrets are never part of a layer.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from knarr import virtual
from knarr.cache.record import RecordId
from knarr.errors import Bug, KnarrError
from knarr.llb.ops import NO_INPUT, NO_OUTPUT, ExecMount, ExecOp, MountType
from knarr.ops.cachemount import cache_directory
from knarr.ops.world import Active, World
from knarr.paths import clean, inside
from knarr.record import replace
from knarr.runtime.process import BindMount, MountSpec, SecretFile, TmpfsMount

_NEW_TMPFS = 0o1777  # the mode of one that covers nothing


class Prepared:
    """What `prepare` has mounted so far: the root, what goes into the container, the trees that will be committed."""

    def __init__(self) -> None:
        self.root = ""
        self.readonly_root = False
        self.mounts: list[MountSpec] = []
        self.outputs: dict[int, Active] = {}
        self.writable: dict[int, Active] = {}  # by the number of the mount: those that are outputs, and others
        self.caches: dict[tuple[str, RecordId | None], Path] = {}  # one that is mounted twice is locked once


def prepare(world: World, op: ExecOp, inputs: Sequence[RecordId | None], prepared: Prepared, stack: ExitStack) -> None:
    """Mount what `op` wants, for as long as `stack` is open, and note it in `prepared`.

    Raises:
        KnarrError: something was not lent, or is not there.
    """
    mounts = [(number, _absolute(mount, op.meta.cwd)) for number, mount in enumerate(op.mounts)]
    for number, mount in sorted(mounts, key=lambda pair: pair[1].dest.count("/")):
        record = None if mount.input == NO_INPUT else inputs[mount.input]
        if mount.dest == "/":
            prepared.root = _tree(world, number, mount, record, prepared, stack)
            prepared.readonly_root = number not in prepared.writable
        elif mount.type is MountType.BIND:
            _prepare_bind(world, number, mount, record, prepared, stack)
        else:
            prepared.mounts.extend(_special(world, mount, record, prepared, stack))
    if not prepared.root:
        raise Bug("an exec without a root mount")


def _absolute(mount: ExecMount, cwd: str) -> ExecMount:
    """A frontend makes the targets of trees absolute; those of secrets and agents are relative to where it runs."""
    return mount if mount.dest.startswith("/") else replace(mount, dest=clean(f"{cwd}/{mount.dest}"))


def _tree(
    world: World, number: int, mount: ExecMount, record: RecordId | None, prepared: Prepared, stack: ExitStack
) -> str:
    """Where the tree of a mount is: an input as it is, or a writable one on top of it."""
    if mount.readonly and mount.output == NO_OUTPUT:
        return str(stack.enter_context(world.trees.mounted(record)))
    active = prepared.writable[number] = stack.enter_context(world.trees.active(record))
    if mount.output != NO_OUTPUT:
        prepared.outputs[mount.output] = active
    return active.root


def _prepare_bind(
    world: World, number: int, mount: ExecMount, record: RecordId | None, prepared: Prepared, stack: ExitStack
) -> None:
    source = Path(inside(_tree(world, number, mount, record, prepared, stack), mount.selector or "/"))
    if not source.exists():
        raise KnarrError(
            f"mount {mount.dest}: {mount.selector} is not in its source", hint="check source= and from= of the mount"
        )
    prepared.mounts.append(BindMount(source, mount.dest, readonly=mount.readonly))


def _special(
    world: World, mount: ExecMount, record: RecordId | None, prepared: Prepared, stack: ExitStack
) -> Sequence[MountSpec]:
    if mount.type is MountType.CACHE:
        if mount.cache is None:
            raise Bug("a cache mount without an id")
        key = (mount.cache.id, record)
        if key not in prepared.caches:
            prepared.caches[key] = stack.enter_context(cache_directory(world, mount.cache, record, "/"))
        place = Path(inside(prepared.caches[key], mount.selector or "/"))
        return [BindMount(place, mount.dest, readonly=mount.readonly)]
    if mount.type is MountType.TMPFS:
        covered = _covered(prepared, mount.dest)
        mode = _NEW_TMPFS if covered is None else covered
        return [TmpfsMount(mount.dest, mount.tmpfs_size, mode, readonly=mount.readonly)]
    if mount.type is MountType.SECRET:
        return _secret_file(world, mount)
    return _agent(world, mount, stack)


def _covered(prepared: Prepared, dest: str) -> int | None:
    """The mode of the directory that a tmpfs at `dest` covers, if there is one.

    runc gives the tmpfs that mode, and so BuildKit does; crun would not, and where nothing is mounted nobody does.
    """
    root, path = prepared.root, clean(dest)
    for above in prepared.mounts:
        if isinstance(above, BindMount) and path.startswith(f"{clean(above.target)}/"):
            root, path = os.fspath(above.source), clean(dest).removeprefix(clean(above.target))
    place = inside(root, path)
    try:
        found = os.stat(place)
    except OSError:
        return None
    return stat.S_IMODE(virtual.seen(place, found).st_mode) if stat.S_ISDIR(found.st_mode) else None


def _agent(world: World, mount: ExecMount, stack: ExitStack) -> Sequence[MountSpec]:
    option = mount.ssh
    if option is None:
        raise Bug("an ssh mount without an id")
    agent = world.session.ssh(option.id)
    if agent is None:
        if option.optional:
            return []
        id = option.id or "default"
        raise KnarrError(
            f'no SSH key "{id}" forwarded from the client: unset ssh forward key {id}',
            hint=f"pass --ssh {id}, or --ssh {id}=KEYFILE",
        )
    from knarr.ops.sshsocket import lent_socket

    state = world.settings.root
    lent = lent_socket(state, agent, world.scope, mode=option.mode, uid=option.uid, gid=option.gid)
    return [BindMount(stack.enter_context(lent).path, mount.dest)]


def _secret_file(world: World, mount: ExecMount) -> Sequence[MountSpec]:
    option = mount.secret
    if option is None:
        raise Bug("a secret mount without an id")
    secret = world.session.secret(option.id)
    if secret is None:
        if option.optional:
            return []
        raise no_secret(option.id)
    return [SecretFile(mount.dest, secret.value, mode=option.mode, uid=option.uid, gid=option.gid)]


def no_secret(id: str) -> KnarrError:
    """The failure of a process that needs a secret which the caller did not give."""
    return KnarrError(f"secret {id}: not found", hint=f"pass --secret id={id},src=FILE or id={id},env=VARIABLE")
