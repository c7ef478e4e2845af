"""One image from one place to another, whole: read what belongs to it, give it the form that is wanted, copy, look.

result = copy_whole(repository, root, layout, tags=("1.0",), scope=scope)
result.root, result.outcome.kept, result.outcome.lost
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import nullcontext

from knarr.content.target import Fetcher
from knarr.errors import ContentError
from knarr.image.closure import Closure, Turn, Wanted, explore
from knarr.image.closurecopy import CopyOutcome, Destination, copy_closure
from knarr.image.copy import MountsOf, Watch
from knarr.image.reshape import INDEX, KEEP, Reshaped, reshape
from knarr.image.successors import read_config
from knarr.record import record
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Manifest
from knarr.spec.platform import Platform

_EVERYTHING = Wanted()


@record
class CopyOptions:
    """What to copy, in which form, and how hard to work."""

    wanted: Wanted = _EVERYTHING
    attestations: str = KEEP
    jobs: int = 4  # transfers at a time; registries answer more with 429, BuildKit's default is the same
    verify: bool = True


@record
class WholeCopy:
    """What was copied, and how it went."""

    reshaped: Reshaped
    outcome: CopyOutcome

    @property
    def root(self) -> Descriptor:
        """What the image is at the target: another digest than at the source when its form was changed."""
        return self.reshaped.closure.root


def gather(
    source: Fetcher,
    root: Descriptor,
    *,
    scope: Scope,
    options: CopyOptions,
    turn: Turn = nullcontext,
    tags: Sequence[str] | None = None,
) -> Reshaped:
    """Everything that is to be copied of an image, in the form that is wanted. `tags`: those of the source, if known.

    Raises:
        NotFound, ContentError, UsageError, RegistryError, Cancelled: see `explore` and `reshape`.
    """
    closure = explore(source, root, scope=scope, wanted=options.wanted, jobs=options.jobs, turn=turn, tags=tags)
    own = _platform(source, closure) if options.attestations == INDEX else None
    wanted = options.wanted
    return reshape(
        closure,
        platforms=wanted.platforms,
        sparse=wanted.sparse and bool(wanted.platforms),
        attestations=options.attestations,
        own_platform=own,
    )


def copy_whole(
    source: Fetcher,
    root: Descriptor,
    target: Destination,
    *,
    tags: Sequence[str] = (),
    scope: Scope,
    options: CopyOptions | None = None,
    turn: Turn = nullcontext,
    source_tags: Sequence[str] | None = None,
    watch: Watch | None = None,
    mounts_of: MountsOf | None = None,
    known: Set[Digest] = frozenset(),
) -> WholeCopy:
    """Copy `root` with all that belongs to it; see `explore`, `reshape` and `copy_closure`."""
    options = options or CopyOptions()
    reshaped = gather(source, root, scope=scope, options=options, turn=turn, tags=source_tags)
    outcome = copy_closure(
        reshaped.closure,
        source,
        target,
        tags=tags,
        scope=scope,
        jobs=options.jobs,
        turn=turn,
        watch=watch,
        mounts_of=mounts_of,
        known=known,
        verify=options.verify,
    )
    return WholeCopy(reshaped, outcome)


def _platform(source: Fetcher, closure: Closure) -> Platform | None:
    document = closure.nodes[closure.root.digest].document
    if not isinstance(document, Manifest):
        return None
    try:
        return read_config(source, document).platform
    except ContentError:
        return None  # an artifact has none
