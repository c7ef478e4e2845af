"""The ops of LLB as frozen records: what each vertex says, without protobuf.

Field by field the messages of BuildKit's solver/pb/ops.proto. `definition` turns
them into bytes, `decode` bytes into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Literal

from knarr.errors import Span
from knarr.record import field, record
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform


class MountType(IntEnum):
    BIND = 0
    SECRET = 1
    SSH = 2
    CACHE = 3
    TMPFS = 4


class NetMode(IntEnum):
    UNSET = 0  # sandbox
    HOST = 1
    NONE = 2


class SecurityMode(IntEnum):
    SANDBOX = 0
    INSECURE = 1


class CacheSharing(IntEnum):
    SHARED = 0
    PRIVATE = 1
    LOCKED = 2


class ContentCache(IntEnum):
    """Whether a mount's input is known to the cache by content."""

    DEFAULT = 0
    ON = 1
    OFF = 2


NO_INPUT = -1
NO_OUTPUT = -1


@record
class ProxyEnv:
    http_proxy: str = ""
    https_proxy: str = ""
    ftp_proxy: str = ""
    no_proxy: str = ""
    all_proxy: str = ""


@record
class HostIP:
    host: str
    ip: str


@record
class UlimitOpt:
    name: str
    soft: int
    hard: int


@record
class Meta:
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    proxy_env: ProxyEnv | None = None
    extra_hosts: tuple[HostIP, ...] = ()
    hostname: str = ""
    ulimits: tuple[UlimitOpt, ...] = ()
    cgroup_parent: str = ""
    remove_mount_stubs_recursive: bool = False
    valid_exit_codes: tuple[int, ...] = ()


@record
class CacheOpt:
    id: str
    sharing: CacheSharing = CacheSharing.SHARED


@record
class SecretOpt:
    id: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    optional: bool = False


@record
class SSHOpt:
    id: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    optional: bool = False


@record
class ExecMount:
    """One mount of an exec. `input` is an index into the vertex's inputs or NO_INPUT; likewise `output`."""

    dest: str
    input: int = NO_INPUT
    selector: str = ""
    output: int = NO_OUTPUT
    readonly: bool = False
    type: MountType = MountType.BIND
    tmpfs_size: int = 0  # bytes, 0: kernel default
    has_tmpfs_opt: bool = False
    cache: CacheOpt | None = None
    secret: SecretOpt | None = None
    ssh: SSHOpt | None = None
    result_id: str = ""
    content_cache: ContentCache = ContentCache.DEFAULT


@record
class SecretEnv:
    id: str
    name: str
    optional: bool = False


@record
class CDIDevice:
    name: str
    optional: bool = False


@record
class ExecOp:
    meta: Meta
    mounts: tuple[ExecMount, ...]
    network: NetMode = NetMode.UNSET
    security: SecurityMode = SecurityMode.SANDBOX
    secret_env: tuple[SecretEnv, ...] = ()
    cdi_devices: tuple[CDIDevice, ...] = ()


ResolveMode = Literal["default", "pull", "local", "never"]
"""Of base images. `default`: what the registry says, and where it is silent what is here; `pull`: only what it says;
`local`: what is here, else what it says; `never`: only what is here."""


@record
class SourceOp:
    """`docker-image://…`, `local://…`, `git://…`, `https://…`, `oci-layout://…`, with attributes."""

    identifier: str
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)


@record
class UserOpt:
    """A user or a group of a chown: a number, or a name looked up in the passwd/group of input `input`."""

    id: int | None = None
    name: str = ""
    input: int = NO_INPUT


@record
class ChownOpt:
    user: UserOpt | None = None
    group: UserOpt | None = None


@record
class Copy:
    src: str
    dest: str
    owner: ChownOpt | None = None
    mode: int = -1  # -1: keep; 0 and no meaning where `mode_str` is set
    mode_str: str = ""  # symbolic, like "u=rwX,go=rX"
    follow_symlink: bool = False
    dir_copy_contents: bool = False
    attempt_unpack: bool = False
    create_dest_path: bool = False
    allow_wildcard: bool = False
    allow_empty_wildcard: bool = False
    timestamp: int = -1  # nanoseconds since 1970, -1: keep
    include_patterns: tuple[str, ...] = ()
    exclude_patterns: tuple[str, ...] = ()
    always_replace_existing: bool = False
    required_paths: tuple[str, ...] = ()


@record
class MkFile:
    path: str
    mode: int
    data: bytes
    owner: ChownOpt | None = None
    timestamp: int = -1


@record
class MkDir:
    path: str
    mode: int
    make_parents: bool = False
    owner: ChownOpt | None = None
    timestamp: int = -1


@record
class Rm:
    path: str
    allow_not_found: bool = False
    allow_wildcard: bool = False


@record
class Symlink:
    oldpath: str
    newpath: str
    owner: ChownOpt | None = None
    timestamp: int = -1


@record
class FileAction:
    """One action of a file op.

    `input` and `secondary_input` count first through the vertex's inputs, then
    through the actions before this one (a chain); NO_INPUT is scratch.
    `output` is the op's output index or NO_OUTPUT for an inner link of a chain.
    """

    input: int
    action: Copy | MkFile | MkDir | Rm | Symlink
    secondary_input: int = NO_INPUT
    output: int = NO_OUTPUT


@record
class FileOp:
    actions: tuple[FileAction, ...]


@record
class MergeOp:
    """Lay the inputs over one another, first input lowest. All vertex inputs, in order."""

    inputs: tuple[int, ...]


@record
class DiffOp:
    """What `upper` has that `lower` has not; NO_INPUT is scratch."""

    lower: int
    upper: int


@record
class BuildOp:
    """Solve the LLB found in a file of an input."""

    builder: int
    inputs: Mapping[str, int] = field(default_factory=dict, hash=False)
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    definition: bytes = b""  # a marshalled pb.Definition, where it is given in place


@record
class PassthroughOp:
    """Give inputs on unchanged, once all of them are done. `outputs` are the inputs that can be used further."""

    id: str
    outputs: tuple[int, ...] = ()


Op = ExecOp | SourceOp | FileOp | MergeOp | DiffOp | BuildOp | PassthroughOp


@record
class ProgressGroup:
    id: str
    name: str
    weak: bool = False


@record
class LinuxResources:
    """Limits of the cgroup a step runs in; 0 and "" are no limit.

    `memory_swap_bytes` counts memory and swap together, -1 is as much swap as there is.
    `pids` is knarr's own: BuildKit's graphs have no word for it.
    """

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpu_shares: int = 0
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0


@record
class Metadata:
    """What rides with a vertex but is not part of its digest. `description` has `llb.customname` and the like."""

    ignore_cache: bool = False
    description: Mapping[str, str] = field(default_factory=dict, hash=False)
    export_cache: bool | None = None
    caps: tuple[str, ...] = ()
    progress_group: ProgressGroup | None = None
    resources: LinuxResources | None = None

    @property
    def name(self) -> str:
        return self.description.get("llb.customname", "")


@record
class Edge:
    """Output `index` of the vertex `digest`."""

    digest: Digest
    index: int = 0


@record
class Vertex:
    """One vertex of a definition: its op, what it reads, where it runs, where it was written.

    Made by `definition.vertex` and `decode` only: `digest` and `raw`
    belong to the op, its inputs, platform and filters, and change with them.
    """

    digest: Digest  # sha256 of the op's bytes (inputs, platform and constraints included)
    op: Op
    inputs: tuple[Edge, ...] = ()
    platform: Platform | None = None
    metadata: Metadata = Metadata()
    spans: tuple[Span, ...] = ()
    filters: tuple[str, ...] = ()  # which workers may run it
    raw: bytes = field(default=b"", hash=False, repr=False)  # the op as marshalled


@record
class SourceText:
    """A source file the spans point into."""

    file: str
    data: bytes
    language: str = "Dockerfile"
    definition: bytes = field(default=b"", repr=False)  # the graph it was read from, as a marshalled pb.Definition


@record
class Graph:
    """A definition as records: vertices in an order where inputs come first, and the edge it is about.

    `root` None is scratch: an empty definition.
    """

    vertices: Mapping[Digest, Vertex]
    root: Edge | None
    sources: tuple[SourceText, ...] = ()


def cache_ids(op: Op) -> frozenset[str]:
    """The ids of the cache mounts of an exec; of other ops none."""
    if not isinstance(op, ExecOp):
        return frozenset()
    return frozenset(mount.cache.id for mount in op.mounts if mount.cache is not None)
