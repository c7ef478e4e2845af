"""What a run has looked at, as far as the same answers would mean that there is nothing to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from knarr.image.spot import REGISTRY, Spot
from knarr.record import record
from knarr.sync import plan
from knarr.sync.places import locator_of, name_of
from knarr.sync.state import State

Place = tuple[str, str]
"""A registry and a repository there."""


@record
class Looked:
    """Lists of tags (None: no list was asked for) and digests by tag, for each repository.

    `whole`: as long as none of it changes and `until` has not passed, the next run would leave everything as it is.
    """

    whole: bool
    until: float = 0.0  # seconds since 1970
    repositories: Mapping[Place, tuple[tuple[str, ...] | None, Mapping[str, str]]] = {}


def looked(copies: Iterable[plan.Copy], lists: Mapping[Place, tuple[str, ...]], state: State) -> Looked:
    """What `copies`, which came of `lists`, rested on when everything was found, or made, the same."""
    digests: dict[Place, dict[str, str]] = {place: {} for place in lists}
    until = float("inf")
    for copy in copies:
        for target in copy.targets:
            known = state.get(name_of(target))
            if known is None or known.wish != plan.wish_of(copy.task) or copy.task.prune:
                return Looked(False)
            until = min(until, known.checked + copy.task.recheck_s)
            for spot, digest in ((copy.source, known.source), (target, known.target)):
                if spot.kind != REGISTRY:
                    return Looked(False)
                mine = digests.setdefault(place_of(spot), {})
                if mine.setdefault(locator_of(spot), digest) != digest:
                    return Looked(False)  # one tag, two images: tasks that undo each other
    return Looked(True, until, {place: (lists.get(place), found) for place, found in digests.items()})


def place_of(spot: Spot) -> Place:
    """Where the repository of a registry is."""
    assert spot.reference is not None
    return spot.reference.registry, spot.reference.repository
