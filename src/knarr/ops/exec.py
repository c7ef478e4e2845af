"""The exec op: mount the inputs, run a process, commit what it changed.

What is mounted is prepared by `execmounts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from knarr import disk
from knarr.cache.record import RecordId
from knarr.errors import KnarrError, Remains, RuntimeFailed, StepFailed
from knarr.llb.ops import NO_INPUT, ExecOp, LinuxResources, MountType, NetMode, SecurityMode
from knarr.ops.entitlements import Allowed, devices_of
from knarr.ops.execmounts import Prepared, no_secret, prepare
from knarr.ops.world import World, leaving
from knarr.progress import Log
from knarr.record import record, replace
from knarr.runtime.process import SANDBOX, Exit, ProcessSpec, Ulimit
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.ops.steptrace import StepTrace
    from knarr.runtime.cdi import CdiDevice

_NETWORK: dict[NetMode, Literal["default", "host", "none"]] = {
    NetMode.UNSET: "default",
    NetMode.HOST: "host",
    NetMode.NONE: "none",
}
_KEPT_LINES = 20  # of a failed step's output, shown again below the excerpt


@record
class StepOptions:
    """What the request adds to every exec: not part of the op, not part of its cache key."""

    shm_size_bytes: int = 64 * 2**20
    allowed: Allowed = Allowed()
    trace: StepTrace | None = None  # how steps tell of themselves


def run(
    world: World,
    op: ExecOp,
    inputs: Sequence[RecordId | None],
    names: Mapping[int, RecordId],
    *,
    vertex: str,
    step: str,
    platform: Platform | None,
    options: StepOptions,
    limits: LinuxResources | None,
    meanwhile: Callable[[], object],
) -> list[RecordId]:
    """Run the process and commit the outputs that have a name in `names`; others are dropped.

    `vertex` and `step` are how progress and errors call it; `meanwhile` is called
    while the container starts.

    Raises:
        StepFailed: the process ended with a status that is not allowed.
        RuntimeFailed: it could not be started.
        KnarrError: something that the step needs was not lent or is not allowed.
    """
    world.runtime().expect(world.scope)
    with ExitStack() as stack, leaving(world, lambda: _remains(world, op, inputs, prepared)):
        prepared = Prepared()
        prepare(world, op, inputs, prepared, stack)
        tail = _Tail(world, vertex)
        spec = replace(
            process_spec(world, op, prepared, platform, options),
            devices=_devices(world, op, options, vertex),
            limits=limits,
        )
        if options.trace is not None:
            env = options.trace.environment(spec.env, vertex)
            spec = replace(spec, env=env, mounts=(*spec.mounts, *options.trace.mounts()))
        try:
            ended = world.runtime().run(spec, output=tail.write, scope=world.scope, meanwhile=meanwhile)
        except RuntimeFailed as error:
            raise RuntimeFailed(f"{_unsuccessful(op)}: {error.message}", hint=error.hint) from error
        _require_success(op, ended, step, tail, prepared.root, limits)
        return [prepared.outputs[index].commit(names[index]) for index in sorted(names)]


def _remains(world: World, op: ExecOp, inputs: Sequence[RecordId | None], prepared: Prepared) -> Remains:
    """What became of each mount: the tree as the process left it, or the input that it could not change."""
    read = tuple("" if mount.input == NO_INPUT else inputs[mount.input] or "" for mount in op.mounts)
    kept = {number: world.trees.keep(active) for number, active in prepared.writable.items() if not active.committed}
    return Remains(read, tuple(kept.get(number, input) for number, input in enumerate(read)))


def process_spec(
    world: World, op: ExecOp, prepared: Prepared, platform: Platform | None, options: StepOptions
) -> ProcessSpec:
    """The process of `op`, on what was prepared for it; without its devices.

    Raises:
        KnarrError: a secret that a variable needs was not given.
    """
    meta = op.meta
    return ProcessSpec(
        rootfs=Path(prepared.root),
        args=meta.args,
        env=tuple(environment(world, op)),
        cwd=meta.cwd or "/",
        user=meta.user,
        platform=platform,
        readonly_root=prepared.readonly_root,
        mounts=tuple(prepared.mounts),
        network=_NETWORK[op.network],
        security="insecure" if op.security is SecurityMode.INSECURE else "sandbox",
        hostname=meta.hostname or SANDBOX,
        extra_hosts=tuple((host.host, host.ip) for host in meta.extra_hosts),
        shm_size_bytes=_shm_size(op) or options.shm_size_bytes,
        ulimits=tuple(Ulimit(u.name, u.soft, u.hard) for u in meta.ulimits),
        cgroup_parent=meta.cgroup_parent or world.settings.cgroup_parent,
    )


def _devices(world: World, op: ExecOp, options: StepOptions, vertex: str) -> tuple[CdiDevice, ...]:
    if not op.cdi_devices:
        return ()
    devices, missing = devices_of(op.cdi_devices, options.allowed, world.settings.cdi_dirs)
    for name in missing:
        text = f"device {name} is not registered on this machine: the step runs without it\n"
        world.sink.send(Log(vertex, 2, text.encode(), time.time_ns()))
    return devices


def _shm_size(op: ExecOp) -> int:
    return next((m.tmpfs_size for m in op.mounts if m.type is MountType.TMPFS and m.dest == "/dev/shm"), 0)


def environment(world: World, op: ExecOp) -> list[str]:
    """The variables of a process: those it names, proxies, and secrets.

    Raises:
        KnarrError: a secret was not given.
    """
    env = list(op.meta.env)
    proxy = op.meta.proxy_env
    if proxy is not None:
        pairs = (
            ("HTTP_PROXY", proxy.http_proxy),
            ("HTTPS_PROXY", proxy.https_proxy),
            ("FTP_PROXY", proxy.ftp_proxy),
            ("NO_PROXY", proxy.no_proxy),
            ("ALL_PROXY", proxy.all_proxy),
        )
        for name, value in pairs:
            if value:
                env += [f"{name}={value}", f"{name.lower()}={value}"]
    for wanted in op.secret_env:
        if not wanted.name:
            raise KnarrError(f"secret {wanted.id}: the variable it is to be has no name", hint="write env=NAME")
        secret = world.session.secret(wanted.id)
        if secret is not None:
            env.append(f"{wanted.name}={secret.value.decode(errors='surrogateescape')}")
        elif not wanted.optional:
            raise no_secret(wanted.id)
    return env


class _Tail:
    """Passes output on as log events and keeps the last lines for the error."""

    def __init__(self, world: World, vertex: str) -> None:
        self._send: Callable[[Log], None] = world.sink.send
        self._vertex = vertex
        self._kept = b""

    def write(self, stream: int, data: bytes) -> None:
        self._send(Log(self._vertex, stream, data, time.time_ns()))
        self._kept = (self._kept + data)[-8192:]

    def lines(self) -> tuple[str, ...]:
        return tuple(self._kept.decode(errors="replace").rstrip("\n").split("\n")[-_KEPT_LINES:]) if self._kept else ()


def _require_success(op: ExecOp, ended: Exit, step: str, tail: _Tail, root: str, limits: LinuxResources | None) -> None:
    allowed = op.meta.valid_exit_codes or (0,)
    if ended.status in allowed:
        return
    message = f"{_unsuccessful(op)}: exit code: {ended.status}"
    raise StepFailed(message, step=step, status=ended.status, output=tail.lines(), hint=_advice(ended, root, limits))


def _unsuccessful(op: ExecOp) -> str:
    """The words by which clients of BuildKit's know a failed step."""
    return f'process "{" ".join(op.meta.args)}" did not complete successfully'


def _advice(ended: Exit, root: str, limits: LinuxResources | None) -> str:
    if disk.is_full(root):  # asked now, before what the step wrote is removed
        return f"no space left on the disk that holds KNARR_ROOT: {disk.ROOM}"
    if ended.at_memory_limit and limits is not None:
        return f"the kernel killed a process of it at its memory limit of {_size(limits.memory_bytes)}: raise --memory"
    if ended.out_of_memory:
        return "the kernel killed it for lack of memory: give the build more, or the step less to do"
    if ended.status == 137:
        return "it was killed (SIGKILL)"
    if ended.status == 127:
        return "a command was not found: is it installed in this stage, and on PATH?"
    if ended.status == 126:
        return "a command could not be executed: is it executable, and built for this platform?"
    return ""


def _size(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"
