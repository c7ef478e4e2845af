"""What to run, where, and how it is watched: the records between `ops.exec` and the runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from knarr.record import field, record
from knarr.runtime.capabilities import USUAL, Rights
from knarr.spec.platform import Platform

SANDBOX = "buildkitsandbox"  # what a step is called that has no name of its own

if TYPE_CHECKING:
    from knarr.llb.ops import LinuxResources
    from knarr.network.steps import Dns
    from knarr.runtime.cdi import CdiDevice


@record
class BindMount:
    """A host directory or file shown inside the container at `target` (absolute, inside the root)."""

    source: Path
    target: str
    readonly: bool = False


@record
class TmpfsMount:
    """An empty memory file system; `size_bytes` 0 is the kernel's default, `options` are further ones of mount(8)."""

    target: str
    size_bytes: int = 0
    mode: int = 0o1777
    readonly: bool = False
    options: tuple[str, ...] = ("nosuid",)


@record
class SecretFile:
    """A secret shown as a file. Kept on tmpfs, never on disk."""

    target: str
    value: bytes = field(repr=False)
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


MountSpec = BindMount | TmpfsMount | SecretFile


@record
class Ulimit:
    name: str  # "nofile"
    soft: int
    hard: int


@record
class ProcessSpec:
    """One container to run to its end.

    `rootfs` is the merged tree, already mounted. `user` is what USER says
    (`name`, `uid`, `name:group`, `uid:gid` or empty for root), resolved inside
    `rootfs`. `env` is KEY=value in order; PATH and HOME are added when absent.
    """

    rootfs: Path
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    platform: Platform | None = None  # None: this machine's
    readonly_root: bool = False
    mounts: tuple[MountSpec, ...] = ()
    network: Literal["default", "host", "none"] = "default"
    security: Literal["sandbox", "insecure"] = "sandbox"
    hostname: str = SANDBOX
    extra_hosts: tuple[tuple[str, str], ...] = ()  # (name, address)
    shm_size_bytes: int = 64 * 2**20  # BuildKit's and Docker's default
    ulimits: tuple[Ulimit, ...] = ()
    limits: LinuxResources | None = None
    cgroup_parent: str = ""
    terminal: bool = False  # its standard streams are a terminal: `Stdio` has one
    devices: tuple[CdiDevice, ...] = ()
    rights: Rights = USUAL
    dns: Dns | None = None  # instead of what the network or the machine says


Output = Callable[[int, bytes], None]
"""Called with (1 or 2, bytes) as the process writes; from one thread at a time."""


@record
class Stdio:
    """Descriptors of the caller for a process's standard streams; they stay open on this side.

    None: there is nothing to read, or what is written goes to `Output`.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


@record
class Exit:
    """How a process ended: its exit status (128 + signal when killed) and whether the kernel's OOM killer did it.

    `at_memory_limit`: the kernel killed processes of the container because it had as much memory as it may have.
    """

    status: int
    out_of_memory: bool = False
    at_memory_limit: bool = False
