"""Which builds of the history a client asks for.

A filter is terms joined by commas that must all hold; of several filters any will
do. Terms: `ref`, `status` (completed, error, canceled) and `repository` with ==, =,
!= and ~= (a regular expression); `startedAt` and `completedAt` with <, <=, > and >=
and a time or how long ago; `duration` likewise.

Spec: BuildKit's solver/llbsolver/history/filter.go, 73ed682.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from knarr.cache.prune import duration_ns
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.pb.control_pb2 import BuildHistoryRecord

    Test = Callable[[BuildHistoryRecord], bool]

_TERM = re.compile(r"(\w+)\s*(==|!=|~=|<=|>=|=|<|>)\s*(.*)", re.DOTALL)
_TIMES = ("startedAt", "completedAt", "duration")
_TEXTS = ("ref", "status", "repository")


def chosen(
    records: Iterable[BuildHistoryRecord], filters: Sequence[str], limit: int, *, now_s: float
) -> list[BuildHistoryRecord]:
    """The records that one of `filters` lets pass; with a limit the newest, as many, newest first.

    Raises:
        UsageError: a filter or the limit makes no sense.
    """
    if limit < 0:
        raise UsageError(f"invalid limit {limit}")
    choices = [[_test(term, now_s) for term in text.split(",") if term.strip()] for text in filters]
    found = [r for r in records if not choices or any(all(test(r) for test in tests) for tests in choices)]
    if not limit:
        return found
    newest_first = sorted(found, key=lambda r: (r.CreatedAt.seconds, r.CreatedAt.nanos), reverse=True)
    return newest_first[:limit]


def _test(term: str, now_s: float) -> Test:
    match = _TERM.fullmatch(term.strip())
    if match is None or match[1] not in (*_TIMES, *_TEXTS):
        raise UsageError(f"invalid filter {term!r}", hint=f"fields are: {', '.join((*_TEXTS, *_TIMES))}")
    field, operator, value = match.groups()
    value = value.strip('"')
    if field in _TIMES:
        return _compared(field, operator, _seconds(field, value, now_s))
    return _said(field, operator, value)


def _said(field: str, operator: str, value: str) -> Test:
    if operator == "~=":
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise UsageError(f"invalid filter {field}~={value}: {error}") from None
        return lambda record: pattern.search(_text(record, field)) is not None
    if operator == "!=":
        return lambda record: _text(record, field) != value
    if operator in ("=", "=="):
        return lambda record: _text(record, field) == value
    raise UsageError(f"invalid filter {field}{operator}{value}: text has no order")


def _text(record: BuildHistoryRecord, field: str) -> str:
    if field == "ref":
        return record.Ref
    if field == "repository":
        return record.FrontendAttrs.get("vcs:source") or record.FrontendAttrs.get("context", "")
    if not record.HasField("CompletedAt"):
        return "running"
    if not record.HasField("error"):
        return "completed"
    return "canceled" if record.error.code == 1 or "context canceled" in record.error.message else "error"


def _compared(field: str, operator: str, value: float) -> Test:
    def test(record: BuildHistoryRecord) -> bool:
        found = _moment(record, field)
        if operator == ">=":
            return found >= value
        if operator == "<=":
            return found <= value
        return found > value if operator == ">" else found < value

    if operator not in ("<", "<=", ">", ">="):
        raise UsageError(f"invalid filter {field}{operator}: use <, <=, > or >=")
    return test


def _moment(record: BuildHistoryRecord, field: str) -> float:
    started = record.CreatedAt.seconds + record.CreatedAt.nanos / 1e9
    if field == "startedAt":
        return started
    ended = record.CompletedAt.seconds + record.CompletedAt.nanos / 1e9
    if field == "completedAt":
        return ended
    return max(0.0, ended - started)


def _seconds(field: str, value: str, now_s: float) -> float:
    try:
        seconds = duration_ns(value) / 1e9
    except UsageError:
        if field == "duration":
            raise
    else:
        return seconds if field == "duration" else now_s - seconds
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise UsageError(f"invalid time {value}", hint="write it like 2026-01-02T15:04:05Z, or like 24h") from None
