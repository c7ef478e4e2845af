"""What a frontend may ask that runs outside the engine: the protocol, and the records that pass through it.

A frontend image, and a client that compiles on its side, ask for more than a
`Bridge` can answer: they have graphs solved, look into the results, run processes
in them, and in the end name the results that the build is about. `engine.gateway`
answers; `buildkit.gateway` carries questions and answers over gRPC.

Results are lazy: `Ref` is a graph, and it is solved when somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from knarr.errors import Unsupported
from knarr.frontend.bridge import ResolvedImage
from knarr.llb.ops import ExecMount, Graph, HostIP, Meta, NetMode, SecretEnv, SecurityMode, SourceOp
from knarr.progress import Warned
from knarr.record import field, record
from knarr.scope import Scope
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.frontend.sourcequestion import SourceQuestion
    from knarr.llb.sourcepolicy import SourcePolicy
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.digest import Digest

ONLY = ""  # the name of a result that is the only one


class UnsupportedRequest(Unsupported):
    """A question that the frontend does not know: `name` is what the option `requestid` says."""

    def __init__(self, name: str, *, hint: str = "") -> None:
        super().__init__(f"unsupported request {name}", hint=hint)
        self.name = name


class UnsupportedCapability(Unsupported):
    """Something that is asked of a frontend whose image does not say that it has it."""

    def __init__(self, name: str, *, hint: str = "") -> None:
        super().__init__(f"unsupported frontend capability {name}", hint=hint)
        self.name = name


@record
class Ref:
    """A result that is solved when somebody looks at it. `definition` is its graph as it came, for sending it on."""

    graph: Graph
    definition: bytes = field(default=b"", repr=False)


@record
class Left:
    """A tree that a failed step has left: `tree` is the gateway's name for it, from the error's `remains`."""

    tree: str


@record
class GivenAttestation:
    """An attestation that a frontend makes: the file `path` of a result has its predicate.

    Of a bundle `path` is a directory, and each of its files a statement. A subject is
    a name and digests; None for these: whatever the attestation is attached to.
    """

    ref: Ref | None
    path: str
    predicate_type: str = ""
    is_bundle: bool = False
    subjects: tuple[tuple[str, tuple[str, ...] | None], ...] = ()
    metadata: Mapping[str, bytes] = field(default_factory=dict, hash=False)


@record
class Answer:
    """What a frontend gives: results by the id of their platform (`ONLY` for a single one), and what is said of them.

    The keys of `metadata` are BuildKit's: `containerimage.config/linux/amd64`,
    `refs.platforms` … Attestations are found by the platform's id in any case.
    """

    refs: Mapping[str, Ref]
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    attestations: Mapping[str, tuple[GivenAttestation, ...]] = field(default_factory=dict)


@record
class FileStatus:
    """What stat(2) says of a file in a result. `path` is its name in the directory that was asked about."""

    path: str
    mode: int  # with the type, as in st_mode
    uid: int = 0
    gid: int = 0
    size: int = 0
    modified_ns: int = 0
    link: str = ""  # where a symlink leads
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict, hash=False)


@record
class AttestationChain:
    """What attests an image, from its index on: digests, and the documents that they lead to."""

    root: Digest
    image: Digest
    attestation: Digest | None = None
    signature: Digest | None = None
    blobs: tuple[tuple[Descriptor, bytes], ...] = field(default=(), repr=False)


@record
class SourceState:
    """What a source is now: of an image its digest and config, of a repository the commit, of a URL the file."""

    digest: str = ""  # of an image or of a file; a commit
    config: bytes = b""
    ref: str = ""  # of a repository, in full
    object: str = ""  # of a repository: what `ref` names, a commit or a tag object
    raw_commit: bytes = b""  # of a repository, if asked for: the commit as git keeps it
    raw_tag: bytes = b""  # the same of the tag object, where `ref` names one
    filename: str = ""
    modified_s: int = 0  # since 1970, 0: not said
    checksum: str = ""  # of a file with the suffix that was asked for
    chain: AttestationChain | None = None  # of an image, when it was asked for and there is an index


@record
class ContainerSpec:
    """A container to run processes in: `mounts`, the root at `/` among them, each with the result it shows."""

    mounts: tuple[tuple[ExecMount, Ref | Left | None], ...]
    network: NetMode = NetMode.UNSET
    platform: Platform | None = None
    extra_hosts: tuple[HostIP, ...] = ()
    hostname: str = ""


@record
class ProcessRequest:
    """A process to start in a container. `output` is called with (1 or 2, bytes), from one thread at a time."""

    meta: Meta
    output: Callable[[int, bytes], None]
    security: SecurityMode = SecurityMode.SANDBOX
    secret_env: tuple[SecretEnv, ...] = ()
    tty: bool = False
    stdin: int | None = None  # a descriptor to read from, closed by the container; None: nothing to read


class RunningProcess(Protocol):
    """A process in a container."""

    def wait(self) -> int:
        """Its exit status, once it has ended and all of its output was passed on.

        Raises:
            KnarrError: it could not be started.
            Cancelled: its container was released, or the build was cancelled.
        """
        ...

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal how large it is; nothing happens when it has none."""
        ...


class Container(Protocol):
    """Mounts, and the processes in them. The first process is the one whose end is the end of the others."""

    def start(self, request: ProcessRequest) -> RunningProcess: ...

    def read_file(self, mount: int, path: str, *, offset: int, length: int | None) -> bytes:
        """A file of the container's mount number `mount`, as the processes see it now. So do the next two."""
        ...

    def list_directory(self, mount: int, path: str, *, pattern: str) -> list[FileStatus]: ...

    def stat(self, mount: int, path: str) -> FileStatus: ...

    def release(self) -> None:
        """End all processes, and unmount.

        Raises:
            Cancelled: it is done, and a process still ran.
        """
        ...


class Gateway(Protocol):
    """Asked by a frontend; may block; may be called from several threads at once.

    `scope` is the one call's: cancelling it ends the call, and nothing else.

    Raises (all methods):
        KnarrError: it cannot be done; the frontend is told, and may go on.
        Cancelled: the build or the call was cancelled.
    """

    def solve(self, definition: bytes, policies: tuple[SourcePolicy, ...] = ()) -> Ref:
        """The result of a marshalled `pb.Definition`, which is read and checked, but not solved yet.

        Its sources obey the build's source policies, and then `policies`.
        """
        ...

    def governed(
        self, source: SourceOp, platform: Platform | None, policies: tuple[SourcePolicy, ...] = ()
    ) -> SourceOp:
        """What is to be fetched where `source` is asked for, by the build's source policies and then `policies`."""
        ...

    def ask(self, frontend: str, options: Mapping[str, str], inputs: Mapping[str, bytes], *, scope: Scope) -> Answer:
        """The answer of another frontend: `dockerfile.v0` or `gateway.v0`."""
        ...

    def evaluate(self, ref: Ref, *, scope: Scope) -> None:
        """Solve `ref` now."""
        ...

    def read_file(self, ref: Ref, path: str, *, offset: int, length: int | None, scope: Scope) -> bytes: ...

    def list_directory(self, ref: Ref, path: str, *, pattern: str, scope: Scope) -> list[FileStatus]: ...

    def stat(self, ref: Ref, path: str, *, scope: Scope) -> FileStatus: ...

    def resolve_image(self, reference: Reference, platform: Platform | None, *, mode: str) -> ResolvedImage:
        """`mode` is `default`, `pull` or `local`."""
        ...

    def resolve_source(self, source: SourceOp, question: SourceQuestion) -> SourceState:
        """What `source`, which the policies have let pass, is now."""
        ...

    def import_cache(self, kind: str, attrs: Mapping[str, str]) -> None:
        """Read this shared cache, too, when the result is solved. One that cannot be read is warned of."""
        ...

    def warn(self, warning: Warned) -> None: ...

    def container(self, spec: ContainerSpec, *, scope: Scope) -> Container:
        """Prepare a container. `scope` is the container's: cancelling it releases the container."""
        ...
