"""`SolveRequest`, `SolveResult` and the protocol `Builder`: one face for every way to build.

Implemented by `engine.Engine` (in this process); a buildkitd and a farm have the
same face. `cli/build` picks one by address and does not care after that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from knarr.frontend.request import FrontendRequest
from knarr.progress import Sink
from knarr.record import field, record
from knarr.scope import Scope
from knarr.session.session import Session
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.llb.sourcepolicy import SourcePolicy


@record
class Export:
    """One `--output`: its type and its options, as text (`image`, `oci`, `docker`, `local`, `tar`, `cacheonly`)."""

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    taker: int | None = None  # the session takes what is written, by this number; None: it is written here, to `dest`


@record
class CacheEntry:
    """One `--cache-from` or `--cache-to`: its type and its options, as text (`registry`, `local`, `inline`)."""

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)


@record
class SolveRequest:
    """One build: what to compile, what to do with the result, and which caches to read and to write."""

    frontend: FrontendRequest
    exports: tuple[Export, ...] = ()
    allow: tuple[str, ...] = ()  # entitlements: see ops/entitlements
    cache_from: tuple[CacheEntry, ...] = ()
    cache_to: tuple[CacheEntry, ...] = ()
    attest: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)  # kind → options: attest/wanted
    tell_provenance: str = ""  # in the metadata: "min", "max", or nothing of it
    hints: Mapping[str, str] = field(default_factory=dict, hash=False)  # `vcs:source` …: where the context comes from
    source_policies: tuple[SourcePolicy, ...] = ()  # what may be fetched, and what is instead
    name: str = ""  # for the history: the command as a person knows it


@record
class SolveResult:
    """What came of it."""

    digest: Digest | None = None  # of the manifest, or of the index where there is one
    config_digest: Digest | None = None  # only for a single bare manifest
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)  # what --metadata-file writes
    timings: Mapping[str, float] = field(default_factory=dict, hash=False)  # seconds, by phase


class Builder(Protocol):
    def solve(self, request: SolveRequest, session: Session, sink: Sink, *, scope: Scope | None = None) -> SolveResult:
        """Build and export. Cancelling `scope` stops it.

        Raises:
            KnarrError: with the place, the fact and the way out.
            Cancelled: the caller gave up; nothing half-done remains.
        """
        ...
