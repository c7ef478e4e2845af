"""Builder of graphs: a `State` is a file tree to come, with the environment commands run in.

States are immutable; `run`, `file` and `merge` give a new one. Nothing is
marshalled before `graph` walks back from a state, because a local source learns
only at the end which of its paths are needed. Vertices that marshal to the same
bytes become one, with their descriptions and places joined.

    base = source("docker-image://docker.io/library/busybox:latest", platform=amd64)
    built = base.with_env(("A", "1")).run(Process(("/bin/true",)))
    definition.encode(graph(built, platform=amd64))

Order is part of a digest: inputs, mounts and environment come out in the order
BuildKit's client/llb gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from knarr.errors import Span
from knarr.llb import caps, definition, ops
from knarr.llb.ops import Edge, Graph, Metadata, NetMode, SecurityMode, SourceText, Vertex
from knarr.record import field, record, replace
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform


@record
class Note:
    """What is said about a vertex without being part of it: its name, its place in the source, its group."""

    description: Mapping[str, str] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    ignore_cache: bool = False
    progress_group: ops.ProgressGroup | None = None
    resources: ops.LinuxResources | None = None


UNSAID = Note()


@record
class Mount:
    """A tree mounted into a run. `source` None is an empty one."""

    target: str
    source: Node | None = None
    selector: str = ""
    readonly: bool = False
    discard: bool = False  # writable, and what is written is thrown away
    cache: ops.CacheOpt | None = None
    tmpfs: bool = False
    tmpfs_size: int = 0  # bytes, 0: kernel default


@record
class SecretMount:
    """A secret shown as a file (`target`), as a variable (`env`), or both."""

    id: str
    target: str | None = None
    env: str | None = None
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    optional: bool = False


@record
class SSHMount:
    id: str
    target: str = ""  # "": /run/buildkit/ssh_agent.N
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    optional: bool = False


@record
class Process:
    """A command to run, and what it gets besides the state's environment. `network` None: the state's."""

    args: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[SecretMount, ...] = ()
    ssh: tuple[SSHMount, ...] = ()
    network: NetMode | None = None
    security: SecurityMode = SecurityMode.SANDBOX
    proxy_env: ops.ProxyEnv | None = None
    extra_hosts: tuple[ops.HostIP, ...] = ()
    ulimits: tuple[ops.UlimitOpt, ...] = ()
    cgroup_parent: str = ""
    devices: tuple[ops.CDIDevice, ...] = ()


@record
class FileStep:
    """One action of a file op; `source` is what a copy copies from."""

    action: ops.Copy | ops.MkFile | ops.MkDir | ops.Rm | ops.Symlink
    source: Node | None = None


class Node(Protocol):
    """A vertex in the making, and its first output, which is the only one a graph of ours reads."""

    @property
    def note(self) -> Note: ...

    @property
    def reads(self) -> tuple[Node, ...]:
        """What it reads, in the order in which that is to be made."""
        ...

    def parts(self, edge: Callable[[Node], Edge], default: Platform) -> Parts:
        """What is marshalled, once everything it reads has a digest."""
        ...


# An op, its inputs, where it runs (None: anywhere), and the capabilities it asks for.
Parts = tuple[ops.Op, tuple[Edge, ...], Platform | None, Iterable[str]]


@record
class State:
    """A file tree to come (`output` None: an empty one) and the environment of what runs in it."""

    output: Node | None = None
    env: Mapping[str, str] = field(default_factory=dict)  # in the order last set
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    network: NetMode = NetMode.UNSET
    platform: Platform | None = None

    def with_env(self, *pairs: tuple[str, str]) -> State:
        """With variables set. One that was set before moves to the end."""
        env = dict(self.env)
        for key, value in pairs:
            env.pop(key, None)
            env[key] = value
        return replace(self, env=env)

    def run(self, process: Process, note: Note = UNSAID) -> State:
        """The tree after `process` ran in it."""
        return replace(self, output=_Exec(self, process, note))

    def file(self, steps: Iterable[FileStep], note: Note = UNSAID) -> State:
        """The tree after file actions, done in order without a container.

        Owners given by name are looked up in this tree: their `input` is
        `owner_input`.
        """
        return replace(self, output=_File(self.output, tuple(steps), note))

    @property
    def owner_input(self) -> int:
        """The input index of this tree in a file op made from it."""
        return ops.NO_INPUT if self.output is None else 0


def source(
    identifier: str,
    attrs: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
    *,
    platform: Platform | None = None,
    note: Note = UNSAID,
) -> State:
    """A tree from outside. `attrs` may be a call, made when the graph is."""
    return State(_Source(identifier, attrs or {}, platform, note), platform=platform)


def merge(states: Iterable[State], note: Note = UNSAID) -> State:
    """The trees laid over one another, the first lowest; empty ones do not count. Environment as of the first."""
    trees = [state for state in states if state.output is not None]
    if not trees:
        return State()
    if len(trees) == 1:
        return trees[0]
    return replace(trees[0], output=_Merge(tuple(tree.output for tree in trees if tree.output), note))


def given(graph: Graph) -> State:
    """The result of a graph that somebody else made, whose vertices stay as they are."""
    return State() if graph.root is None else State(_Given(graph, graph.root))


def graph(state: State, *, platform: Platform, sources: tuple[SourceText, ...] = ()) -> Graph:
    """Marshal everything `state` is made of. `platform` is for vertices that have none of their own."""
    if state.output is None:
        return Graph({}, None)
    vertices: dict[Digest, Vertex] = {}
    made: dict[Node, Edge] = {}
    for node in _inputs_first(state.output):
        if isinstance(node, _Given):
            sources = node.bring(vertices, sources)
            made[node] = node.root
            continue
        parts = node.parts(made.__getitem__, platform)
        new = _seal(node.note, parts)
        known = vertices.get(new.digest)
        vertices[new.digest] = new if known is None else _joined(known, new)
        made[node] = Edge(new.digest)
    return Graph(vertices, made[state.output], sources)


def _inputs_first(root: Node) -> Iterator[Node]:
    """Depth first without recursion: a Dockerfile of thousands of lines is a chain of thousands of vertices."""
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((read, False) for read in reversed(node.reads) if read not in seen)


def _seal(note: Note, parts: Parts) -> Vertex:
    op, inputs, platform, needs = parts
    metadata = Metadata(
        note.ignore_cache, note.description, None, tuple(sorted(set(needs))), note.progress_group, note.resources
    )
    return definition.vertex(op, inputs, platform=platform, metadata=metadata, spans=note.spans)


def _joined(known: Vertex, new: Vertex) -> Vertex:
    a, b = known.metadata, new.metadata
    metadata = Metadata(
        a.ignore_cache or b.ignore_cache,
        {**a.description, **b.description},
        a.export_cache if b.export_cache is None else b.export_cache,
        tuple(sorted({*a.caps, *b.caps})),
        b.progress_group or a.progress_group,
        b.resources or a.resources,
    )
    return replace(known, metadata=metadata, spans=known.spans + new.spans)


class _Given:
    """A graph as it came, in the place of a node."""

    note = UNSAID
    reads: tuple[Node, ...] = ()

    def __init__(self, graph: Graph, root: Edge) -> None:
        self.graph, self.root = graph, root

    def parts(self, edge: Callable[[Node], Edge], default: Platform) -> Parts:
        raise NotImplementedError("a graph that was given is not marshalled")

    def bring(self, vertices: dict[Digest, Vertex], sources: tuple[SourceText, ...]) -> tuple[SourceText, ...]:
        """Add the vertices to those of another graph; gives that one's sources with the ones that came along."""
        known = {source.file: source for source in sources}
        strange = {s.file for s in self.graph.sources if s.file in known and s.data != known[s.file].data}
        for digest, vertex in self.graph.vertices.items():
            # A place in a file that has the name of one of ours, but is another, would show the wrong line.
            spans = tuple(span for span in vertex.spans if span.file not in strange)
            new = vertex if spans == vertex.spans else replace(vertex, spans=spans)
            vertices[digest] = new if digest not in vertices else _joined(vertices[digest], new)
        return (*sources, *(source for source in self.graph.sources if source.file not in known))


class _Source:
    def __init__(
        self,
        identifier: str,
        attrs: Mapping[str, str] | Callable[[], Mapping[str, str]],
        platform: Platform | None,
        note: Note,
    ) -> None:
        self.identifier, self.attrs, self.platform, self.note = identifier, attrs, platform, note

    @property
    def reads(self) -> tuple[Node, ...]:
        return ()

    def parts(self, edge: Callable[[Node], Edge], default: Platform) -> Parts:
        attrs = self.attrs() if callable(self.attrs) else self.attrs
        # Files of a context or a download are the same for every platform.
        specific = self.identifier.startswith(("docker-image://", "oci-layout://"))
        platform = (self.platform or default) if specific else None
        return (ops.SourceOp(self.identifier, attrs), (), platform, caps.of_source(self.identifier, attrs))


class _File:
    def __init__(self, base: Node | None, steps: tuple[FileStep, ...], note: Note) -> None:
        self.base, self.steps, self.note = base, steps, note

    @property
    def reads(self) -> tuple[Node, ...]:
        # The base, then the sources from the last to the first.
        found = [self.base, *(step.source for step in reversed(self.steps))]
        return tuple(dict.fromkeys(output for output in found if output is not None))

    def parts(self, edge: Callable[[Node], Edge], default: Platform) -> Parts:
        inputs: list[Edge] = []

        def index(output: Node | None) -> int:
            return ops.NO_INPUT if output is None else _index(inputs, edge(output))

        links = [
            (index(self.base) if not done else done - 1, index(step.source)) for done, step in enumerate(self.steps)
        ]
        last = len(self.steps) - 1
        actions = tuple(
            ops.FileAction(
                # Every action but the first goes on from the one before it, counted behind the inputs.
                first if not done else len(inputs) + first,
                step.action,
                second,
                0 if done == last else ops.NO_OUTPUT,
            )
            for done, (step, (first, second)) in enumerate(zip(self.steps, links, strict=True))
        )
        return (ops.FileOp(actions), tuple(inputs), None, (caps.FILE_BASE,))


class _Merge:
    def __init__(self, trees: tuple[Node, ...], note: Note) -> None:
        self.trees, self.note = trees, note

    @property
    def reads(self) -> tuple[Node, ...]:
        return self.trees

    def parts(self, edge: Callable[[Node], Edge], default: Platform) -> Parts:
        op = ops.MergeOp(tuple(range(len(self.trees))))
        return (op, tuple(edge(tree) for tree in self.trees), None, (caps.MERGE_OP,))


class _Exec:
    def __init__(self, base: State, process: Process, note: Note) -> None:
        self.base, self.process, self.note = base, process, note
        # In the order of their targets, so the root comes first and is output 0.
        self.mounts = sorted((Mount("/", base.output), *process.mounts), key=lambda mount: mount.target)

    @property
    def reads(self) -> tuple[Node, ...]:
        return tuple(dict.fromkeys(mount.source for mount in self.mounts if mount.source is not None))

    def parts(self, edge: Callable[[Node], Edge], default: Platform) -> Parts:
        base, process = self.base, self.process
        inputs: list[Edge] = []
        mounts: list[ops.ExecMount] = []
        outputs = 0
        for mount in self.mounts:
            index = ops.NO_INPUT if mount.source is None else _index(inputs, edge(mount.source))
            result = not (mount.discard or mount.readonly or mount.cache or mount.tmpfs)
            mounts.append(_written_mount(mount, index, outputs if result else ops.NO_OUTPUT))
            outputs += result
        ssh = [s if s.target else replace(s, target=f"/run/buildkit/ssh_agent.{n}") for n, s in enumerate(process.ssh)]
        op = ops.ExecOp(
            self._meta(ssh),
            (*mounts, *_secret_mounts(process.secrets), *_ssh_mounts(ssh)),
            base.network if process.network is None else process.network,
            process.security,
            tuple(ops.SecretEnv(s.id, s.env, s.optional) for s in process.secrets if s.env is not None),
            process.devices,
        )
        return (op, tuple(inputs), base.platform or default, _exec_caps(op, self.note))

    def _meta(self, ssh: list[SSHMount]) -> ops.Meta:
        base, process = self.base, self.process
        env = tuple(f"{key}={value}" for key, value in base.env.items())
        if ssh and "SSH_AUTH_SOCK" not in base.env:
            env += (f"SSH_AUTH_SOCK={ssh[0].target}",)
        return ops.Meta(
            process.args,
            env,
            base.cwd,
            base.user,
            process.proxy_env,
            process.extra_hosts,
            base.hostname,
            process.ulimits,
            process.cgroup_parent,
            remove_mount_stubs_recursive=True,
        )


def _index(inputs: list[Edge], edge: Edge) -> int:
    """The place of `edge` among the inputs, where it is put if it is new."""
    if edge not in inputs:
        inputs.append(edge)
    return inputs.index(edge)


def _written_mount(mount: Mount, index: int, output: int) -> ops.ExecMount:
    kind = ops.MountType.BIND
    if mount.cache is not None:
        kind = ops.MountType.CACHE
    if mount.tmpfs:
        kind = ops.MountType.TMPFS
    return ops.ExecMount(
        mount.target,
        index,
        mount.selector,
        output,
        mount.readonly,
        kind,
        tmpfs_size=mount.tmpfs_size,
        has_tmpfs_opt=mount.tmpfs,
        cache=mount.cache,
    )


def _secret_mounts(secrets: Iterable[SecretMount]) -> Iterator[ops.ExecMount]:
    for s in secrets:
        if s.target is not None:
            opt = ops.SecretOpt(s.id, s.uid, s.gid, s.mode, s.optional)
            yield ops.ExecMount(s.target, type=ops.MountType.SECRET, output=0, secret=opt)


def _ssh_mounts(agents: Iterable[SSHMount]) -> Iterator[ops.ExecMount]:
    for s in agents:
        opt = ops.SSHOpt(s.id, s.uid, s.gid, s.mode, s.optional)
        yield ops.ExecMount(s.target, type=ops.MountType.SSH, output=0, ssh=opt)


def _exec_caps(op: ops.ExecOp, note: Note) -> Iterator[str]:
    yield caps.EXEC_META_BASE
    yield caps.EXEC_META_SETS_DEFAULT_PATH
    if op.meta.ulimits:
        yield caps.EXEC_META_ULIMIT
    if note.resources is not None:
        yield caps.EXEC_META_LINUX_RESOURCES
    if op.network != NetMode.UNSET:
        yield caps.EXEC_META_NETWORK
    if op.security != SecurityMode.SANDBOX:
        yield caps.EXEC_META_SECURITY
    if op.meta.proxy_env is not None:
        yield caps.EXEC_META_PROXY
    if op.secret_env:
        yield caps.EXEC_MOUNT_SECRET
        yield caps.EXEC_SECRET_ENV
    if op.cdi_devices:
        yield caps.EXEC_META_CDI
    for mount in op.mounts:
        yield from _mount_caps(mount)


def _mount_caps(mount: ops.ExecMount) -> Iterator[str]:
    if mount.selector:
        yield caps.EXEC_MOUNT_SELECTOR
    if mount.type == ops.MountType.CACHE:
        yield caps.EXEC_MOUNT_CACHE
        yield caps.EXEC_MOUNT_CACHE_SHARING
    elif mount.type == ops.MountType.TMPFS:
        yield caps.EXEC_MOUNT_TMPFS
        if mount.tmpfs_size:
            yield caps.EXEC_MOUNT_TMPFS_SIZE
    elif mount.type == ops.MountType.SECRET:
        yield caps.EXEC_MOUNT_SECRET
    elif mount.type == ops.MountType.SSH:
        yield caps.EXEC_MOUNT_SSH
    elif mount.input != ops.NO_INPUT:
        yield caps.EXEC_MOUNT_BIND
