"""What the build cache takes, and what of it may go: on a client's request, and by itself.

Spec: BuildKit's control/control.go (DiskUsage, Prune) and cmd/buildkitd/config/gcpolicy.go.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from knarr.cache.prune import Policy, ceiling, matcher, size_of
from knarr.content.gc import GRACE_S
from knarr.daemon.settings import CollectRule
from knarr.engine import prune
from knarr.engine.parts import Parts
from knarr.errors import KnarrError
from knarr.pb.control_pb2 import PruneRequest, UsageRecord
from knarr.session.session import Credentials

if TYPE_CHECKING:
    from pathlib import Path

    from knarr.cache.record import Record
    from knarr.config import Settings

log = logging.getLogger("knarr.daemon")

_DAY_NS = 86400 * 10**9
_EASY = ("type==source.local", "type==exec.cachemount", "type==source.git.mirror")  # the next build makes them again
_PAUSE_S = 60.0  # between two looks at what may go


class CacheUsage:
    """The cache of one state directory. Safe from several threads."""

    def __init__(self, settings: Settings, policy: Sequence[CollectRule], *, collects: bool) -> None:
        self._settings = settings
        self._collects = collects
        self.policy = tuple(policy) or default_policy(settings.root) if collects else ()
        self._lock = threading.Lock()
        self._last_s = float("-inf")

    def records(self, filters: Iterable[str] = (), *, unused_ns: int = 0) -> list[UsageRecord]:
        """Every record that one of `filters` lets pass and that was not used for `unused_ns`.

        Raises:
            UsageError: a filter that cannot be read.
        """
        parts = self._parts()
        try:
            known = prune.usage(parts)
        finally:
            parts.close()
        users = _users(known)
        now = time.time_ns()
        wanted = matcher(tuple(filters), now_ns=now, in_use=(), needed=users)
        return [
            _message(record, shared=users.get(record.id, 0) > 1)
            for record in known
            if wanted(record) and now - max(record.used_ns, record.created_ns) >= unused_ns
        ]

    def prune(self, request: PruneRequest) -> list[UsageRecord]:
        """Remove what `request` lets go; tells what went.

        Raises:
            UsageError: a filter that cannot be read.
        """
        rule = CollectRule(
            request.all,
            tuple(request.filter),
            request.keepDuration,
            request.reservedSpace,
            request.maxUsedSpace,
            request.minFreeSpace,
        )
        with self._lock:  # two that remove at the same time find each other's trees half gone
            parts = self._parts()
            try:
                return [_message(record, shared=False) for record in self._apply(parts, rule, grace_s=0.0)]
            finally:
                parts.close()

    def collect(self) -> None:
        """Remove what the policy lets go, unless that was done a moment ago. Blocks; failures go to the log."""
        with self._lock:
            if not self._collects or time.monotonic() - self._last_s < _PAUSE_S:
                return
            self._last_s = time.monotonic()
            try:
                parts = self._parts()
                try:
                    gone = sum(len(self._apply(parts, rule)) for rule in self.policy)
                finally:
                    parts.close()
            except (KnarrError, OSError) as error:
                log.warning("the build cache could not be collected: %s", error)
                return
        if gone:
            log.info("collected %d records of the build cache", gone)

    def _apply(self, parts: Parts, rule: CollectRule, *, grace_s: float = GRACE_S) -> Sequence[Record]:
        known = prune.usage(parts)
        disk = os.statvfs(self._settings.root)
        most = ceiling(
            used_bytes=sum(map(size_of, known)),
            free_bytes=disk.f_bavail * disk.f_frsize,
            max_used_bytes=rule.max_used_bytes or None,
            min_free_bytes=rule.min_free_bytes or None,
            reserved_bytes=rule.reserved_bytes or None,
        )
        policy = Policy(rule.keep_duration_ns, most, rule.filters, rule.all)
        return prune.prune(parts, policy, grace_s=grace_s).records

    def _parts(self) -> Parts:
        parts = Parts(self._settings, lambda _host: Credentials())
        parts.prepare()
        return parts


def default_policy(root: Path) -> tuple[CollectRule, ...]:
    """BuildKit's: first what is easily made again, then what lay unused for long, then what is above the limits."""
    disk = os.statvfs(root)
    size = disk.f_blocks * disk.f_frsize
    reserved, most, free = min(size // 10, 10 * 10**9), min(size * 8 // 10, 100 * 10**9), size // 5
    return (
        CollectRule(filters=_EASY, keep_duration_ns=2 * _DAY_NS, max_used_bytes=512 * 10**6),
        CollectRule(keep_duration_ns=60 * _DAY_NS, reserved_bytes=reserved, max_used_bytes=most, min_free_bytes=free),
        CollectRule(reserved_bytes=reserved, max_used_bytes=most, min_free_bytes=free),
        CollectRule(all=True, reserved_bytes=reserved, max_used_bytes=most, min_free_bytes=free),
    )


def _users(records: Iterable[Record]) -> dict[str, int]:
    users: dict[str, int] = {}
    for record in records:
        if record.parent is not None:
            users[record.parent] = users.get(record.parent, 0) + 1
    return users


def _message(record: Record, *, shared: bool) -> UsageRecord:
    message = UsageRecord(
        ID=record.id,
        Mutable=record.kind in ("exec.cachemount", "source.local"),
        Size=size_of(record),
        UsageCount=record.uses,
        Description=record.description,
        RecordType=record.kind,
        Shared=shared,
        Parents=[record.parent] if record.parent is not None else [],
    )
    if record.created_ns:
        message.CreatedAt.CopyFrom(_time(record.created_ns))
    if record.used_ns:
        message.LastUsedAt.CopyFrom(_time(record.used_ns))
    return message


def _time(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9)
