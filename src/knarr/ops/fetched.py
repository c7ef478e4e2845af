"""What a source that lies elsewhere (a URL, a git repository) was found to be, before it is a tree."""

from __future__ import annotations

from collections.abc import Callable

from knarr.cache.record import RecordId
from knarr.record import field, record


@record
class Fetched:
    """`key` names the content; `make(name)` commits it as a tree under that name, and may fetch it only then.

    `pinned`: the definition itself says which content it is, so that asking again can give nothing else.
    """

    key: str
    make: Callable[[RecordId], RecordId] = field(repr=False)
    pinned: bool = False
