"""What exporters work with: the result, and the world they may use."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from knarr.record import field, record

if TYPE_CHECKING:
    from knarr.attest.statement import Attestation
    from knarr.cache.record import RecordId
    from knarr.config import Settings
    from knarr.content.store import Store
    from knarr.export.trees import Layer, Trees
    from knarr.frontend.request import FrontendResult, PlatformResult
    from knarr.progress import Sink
    from knarr.remote.repository import Registry
    from knarr.scope import Scope
    from knarr.session.session import LendsStores, Taker
    from knarr.spec.descriptor import Descriptor

NO_EPOCH = -1  # of an output that is to have none, whatever the build went by


@record
class ExportContext:
    """The world of an export. `now_ns` is the build's time; `build_ref` names the build, if it has a name."""

    settings: Settings
    store: Store
    registry: Callable[[], Registry]
    scope: Scope
    sink: Sink
    now_ns: int = field(default_factory=time.time_ns)
    build_ref: str = ""
    taker: Taker | None = None  # who takes outputs that have a taker's number
    stores: LendsStores | None = None  # whose the directories are of caches and layouts; None: this machine's
    made: dict[int, Descriptor] = field(default_factory=dict, hash=False)  # the images, by the numbers of their outputs


@record
class Result:
    """What was built: the frontend's answer, and the record of each platform's tree (None: scratch).

    `inline` gives, for a platform's number and its image's layers, the cache records for its config.
    """

    frontend: FrontendResult
    records: Sequence[RecordId | None]
    trees: Trees
    inline: Callable[[int, Sequence[Layer]], bytes] | None = None
    attestations: Sequence[Sequence[Attestation]] = ()  # of each platform, in the frontend's order; empty: none at all


def epoch_of(given: int | None, context: ExportContext, *found: PlatformResult) -> int | None:
    """The SOURCE_DATE_EPOCH of an output: its own option, else what the frontend went by, else the settings'.

    That of several results is the one they have in common.
    """
    if given is not None:
        return None if given == NO_EPOCH else given
    epochs = {result.epoch for result in found}
    common = epochs.pop() if len(epochs) == 1 else None
    return context.settings.source_date_epoch if common is None else common
