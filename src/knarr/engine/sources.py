"""What sources are now: a tag's image, a branch's commit, a page's version. One of each to a run of the solver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knarr.errors import Bug, Unsupported
from knarr.llb.ops import SourceOp, Vertex
from knarr.ops import source_image, source_local
from knarr.solver.messages import ResolveSource, SourceResolved
from knarr.spec.platform import host_platform

if TYPE_CHECKING:
    from knarr.engine.sharing import Sharing
    from knarr.ops.fetched import Fetched
    from knarr.ops.images import Images
    from knarr.ops.trees import DiskTrees
    from knarr.ops.world import World
    from knarr.spec.digest import Digest

_LAYOUT = "oci-layout://"
_BLOBS = ("docker-image+blob://", "oci-layout+blob://")


class Sources:
    """Resolves source vertices; safe from several threads. `fetched` has, by vertex, what was asked of servers."""

    def __init__(
        self,
        world: World,
        trees: DiskTrees,
        images: Images,
        nonce: str,
        sharing: Sharing | None,
        pins: dict[Digest, str],
    ) -> None:
        """`nonce` is the build's: a directory that is lent is like no other build's.

        `pins` is told what each source was: the digest of an image or a file, a commit.
        """
        self._pins = pins
        self._world = world
        self._trees = trees
        self._images = images
        self._nonce = nonce
        self._sharing = sharing
        self.fetched: dict[Digest, Fetched] = {}

    def is_lent(self, vertex: Vertex) -> bool:
        """Whether it is a directory of the caller, about which nobody has to be asked."""
        return _op(vertex).identifier.startswith(source_local.SCHEME)

    def resolve(self, instruction: ResolveSource, vertex: Vertex) -> SourceResolved:
        """What `vertex` is now; an image comes with its record, whose layers may still be far.

        Raises:
            KnarrError: it does not exist, or nobody answers.
        """
        op = _op(vertex)
        if self.is_lent(vertex):
            # What is asked of a directory counts too: a job may ask twice.
            return SourceResolved(instruction, f"{vertex.digest}-{self._nonce}", volatile=True)
        if op.identifier.startswith((source_image.SCHEME, _LAYOUT)):
            return self._image(instruction, op, vertex)
        found = self.fetched[vertex.digest] = self._find(op, str(vertex.digest))
        self._pins[vertex.digest] = found.pin
        self._share(vertex, (found.shared_key,) if found.shared_key else ())
        return SourceResolved(instruction, found.key)

    def _image(self, instruction: ResolveSource, op: SourceOp, vertex: Vertex) -> SourceResolved:
        platform = vertex.platform or host_platform()
        if op.identifier.startswith(_LAYOUT):
            from knarr.ops import source_layout

            key, record = source_layout.resolve(self._world, self._images, op, platform, str(vertex.digest))
            self._pins[vertex.digest] = op.identifier.rpartition("@")[2]
        else:
            key, record = source_image.resolve(self._images, op, platform)
            self._pins[vertex.digest] = source_image.pin(self._images, op, platform)
        self._world.cache.touch(link.id for link in self._trees.chain(record))
        if self._sharing is not None:
            is_layout = op.identifier.startswith(_LAYOUT)
            own = () if is_layout else source_image.shared_keys(self._images, op, platform, record)
            self._share(vertex, source_image.layer_keys(record) if is_layout else own)
        return SourceResolved(instruction, key, record=record)

    def _find(self, op: SourceOp, vertex: str) -> Fetched:
        scheme = op.identifier.partition("://")[0]
        if scheme in ("http", "https"):
            from knarr.ops import source_http

            return source_http.resolve(self._world, op, vertex)
        if op.identifier.startswith(_BLOBS):
            from knarr.ops import source_blob

            return source_blob.resolve(self._world, op, vertex)
        if scheme == "git":
            from knarr.ops import source_git

            return source_git.resolve(self._world, op, vertex)
        raise Unsupported(
            f"sources of the kind {scheme} are not supported yet",
            hint="fetch the files yourself and COPY them from the context",
        )

    def _share(self, vertex: Vertex, keys: tuple[str, ...]) -> None:
        if self._sharing is not None and keys:
            self._sharing.resolved(vertex.digest, keys)


def _op(vertex: Vertex) -> SourceOp:
    if not isinstance(vertex.op, SourceOp):
        raise Bug("only a source is resolved")
    return vertex.op
