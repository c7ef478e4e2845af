"""Which records may go: a pure choice over what the store has.

A record goes only after everything that needs it (its children, and rebased links
that point at it), so that what stays is always whole. The longest unused go first.

    gone = select(store.all(), Policy(max_used_bytes=10 * 2**30), now_ns=time.time_ns())
    store.remove(*(record.id for record in gone))  # then their snapshots and blobs
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from knarr.cache.record import Record, RecordId
from knarr.errors import UsageError
from knarr.record import record as frozen

_SECOND_NS = 1_000_000_000
_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": _SECOND_NS,
    "m": 60 * _SECOND_NS,
    "h": 3600 * _SECOND_NS,
    "d": 86400 * _SECOND_NS,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_TERM = re.compile(r"(!?)([a-z]+)(?:(==|!=|~=|=)(.*))?", re.DOTALL)
_INTERNAL = ("internal", "frontend")


@frozen
class Policy:
    """What to keep. With neither a limit nor an age, everything that is not in use may go."""

    keep_duration_ns: int = 0  # used more recently than this: stays
    max_used_bytes: int | None = None  # remove only until no more than this is used
    filters: tuple[str, ...] = ()  # only records that match one of them; see `matcher`
    all: bool = False  # also records that people do not know of (kinds internal and frontend)


def size_of(record: Record) -> int:
    """The bytes that removing `record` frees: its snapshot, and its blob unless a registry has it and we may not."""
    return record.size_bytes + (record.blob.size if record.blob is not None and not record.remote else 0)


def ceiling(
    *,
    used_bytes: int,
    free_bytes: int,
    max_used_bytes: int | None = None,
    min_free_bytes: int | None = None,
    reserved_bytes: int | None = None,
) -> int | None:
    """What the cache may take under these limits, when it takes `used_bytes` and the disk has `free_bytes` left.

    None: there is no limit, so all may go. What is reserved stays whatever the others say.
    """
    ceilings = []
    if max_used_bytes is not None:
        ceilings.append(max_used_bytes)
    if min_free_bytes is not None:
        ceilings.append(used_bytes - max(0, min_free_bytes - free_bytes))
    if reserved_bytes is None:
        return max(0, min(ceilings)) if ceilings else None
    return max(reserved_bytes, min(ceilings)) if ceilings else reserved_bytes


def select(
    records: Iterable[Record], policy: Policy, *, now_ns: int, in_use: Collection[RecordId] = ()
) -> tuple[Record, ...]:
    """The records to remove, in an order in which none is removed before what needs it.

    Raises:
        UsageError: a filter cannot be read.
    """
    known = {record.id: record for record in records}
    needed = _needed_by(known.values())
    wanted = matcher(policy.filters, now_ns=now_ns, in_use=in_use, needed=dict(needed))
    kept = _held(in_use, known)
    total = sum(map(size_of, known.values()))

    def may_go(record: Record) -> bool:
        if record.id in kept or (record.kind in _INTERNAL and not policy.all):
            return False
        return now_ns - _last_use(record) >= policy.keep_duration_ns and wanted(record)

    def enough() -> bool:
        return policy.max_used_bytes is not None and total <= policy.max_used_bytes

    free = [_rank(record) for record in known.values() if not needed.get(record.id) and may_go(record)]
    heapq.heapify(free)
    gone: list[Record] = []
    while free and not enough():
        record = known[heapq.heappop(free)[-1]]
        gone.append(record)
        total -= size_of(record)
        for held in _needs(record):
            needed[held] = needed.get(held, 0) - 1
            if needed[held] == 0 and held in known and may_go(known[held]):
                heapq.heappush(free, _rank(known[held]))
    return tuple(gone)


def matcher(
    filters: Sequence[str], *, now_ns: int, in_use: Collection[RecordId], needed: Mapping[RecordId, int]
) -> Callable[[Record], bool]:
    """The predicate of `--filter`: any of the filters, each of which is terms joined by commas that must all hold.

    A term is `field`, `!field`, `field=value` (or `==`), `field!=value` or `field~=regex`. Fields: id, parents,
    type, description, inuse, mutable, immutable, shared, private, and `until=24h`: not used for so long.

    Raises:
        UsageError: an unknown field, or a value that cannot be read.
    """
    choices = [[_term(term) for term in text.split(",") if term.strip()] for text in filters]

    def wanted(record: Record) -> bool:
        if not choices:
            return True
        facts = _facts(record, in_use=record.id in in_use, users=needed.get(record.id, 0))
        age_ns = now_ns - _last_use(record)
        return any(all(term.holds(facts, age_ns) for term in choice) for choice in choices)

    return wanted


def duration_ns(text: str) -> int:
    """A duration as Go writes it (`24h`, `1h30m`), and days (`7d`), in nanoseconds.

    Raises:
        UsageError: not a duration.
    """
    if not text or _PART.sub("", text):
        raise UsageError(f"{text!r} is not a duration", hint="write something like 24h, 90m or 7d")
    return sum(int(float(number) * _UNITS_NS[unit]) for number, unit in _PART.findall(text))


# --- what needs what


def _needs(record: Record) -> tuple[RecordId, ...]:
    return tuple(other for other in (record.parent, record.same_as) if other is not None)


def _needed_by(records: Iterable[Record]) -> dict[RecordId, int]:
    """How many records need each record."""
    counts: dict[RecordId, int] = {}
    for record in records:
        for other in _needs(record):
            counts[other] = counts.get(other, 0) + 1
    return counts


def _held(in_use: Collection[RecordId], known: Mapping[RecordId, Record]) -> set[RecordId]:
    """What is in use, and all that it needs."""
    held: set[RecordId] = set()
    todo = list(in_use)
    while todo:
        record = known.get(todo.pop())
        if record is not None and record.id not in held:
            held.add(record.id)
            todo.extend(_needs(record))
    return held


def _last_use(record: Record) -> int:
    return max(record.used_ns, record.created_ns)


def _rank(record: Record) -> tuple[int, int, RecordId]:
    return (_last_use(record), record.uses, record.id)


# --- filters


@frozen
class _Term:
    field: str
    operator: str  # "" asks whether it is so
    value: str
    negated: bool

    def holds(self, facts: Mapping[str, str], age_ns: int) -> bool:
        return self._says(facts, age_ns) != self.negated

    def _says(self, facts: Mapping[str, str], age_ns: int) -> bool:
        if self.field == "until":
            return age_ns >= duration_ns(self.value)
        fact = facts[self.field]
        if self.operator == "~=":
            return re.search(self.value, fact) is not None
        if self.operator == "!=":
            return fact != self.value
        return fact == self.value if self.operator else fact not in ("", "false")


_FIELDS = frozenset(
    ("id", "parents", "type", "description", "inuse", "mutable", "immutable", "shared", "private", "until")
)


def _term(text: str) -> _Term:
    match = _TERM.fullmatch(text.strip())
    field = {"parent": "parents"}.get(match[2], match[2]) if match else ""
    if match is None or field not in _FIELDS:
        raise UsageError(f"--filter {text}: unknown field", hint="known are " + ", ".join(sorted(_FIELDS)))
    term = _Term(field, match[3] or "", match[4] or "", negated=bool(match[1]))
    if field == "until":
        duration_ns(term.value)
    if term.operator == "~=":
        try:
            re.compile(term.value)
        except re.error as error:
            raise UsageError(f"--filter {text}: {error}") from None
    return term


def _facts(record: Record, *, in_use: bool, users: int) -> dict[str, str]:
    def said(truth: bool) -> str:
        return "true" if truth else "false"

    return {
        "id": record.id,
        "parents": record.parent or "",
        "type": record.kind,
        "description": record.description,
        "inuse": said(in_use),
        "mutable": said(record.kind == "exec.cachemount"),
        "immutable": said(record.kind != "exec.cachemount"),
        "shared": said(users > 1),
        "private": said(users <= 1),
    }
