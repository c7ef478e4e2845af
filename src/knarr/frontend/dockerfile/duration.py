"""Durations as Go writes them: `1m30s`, `1.5h`, `-2ms`, `0`."""

from __future__ import annotations

from knarr.regex import later

_UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5
    "μs": 10**3,  # U+03BC
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = later(r"([0-9]{0,30})(?:\.([0-9]{0,30}))?(ns|us|µs|μs|ms|s|m|h)")
_MAX_NS = 2**63 - 1


def parse_duration(text: str) -> int:
    """Nanoseconds, rounded towards zero.

    Raises:
        ValueError: not a duration, or longer than 292 years.
    """
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0
    total = 0
    at = 0
    while at < len(body):
        part = _PART.match(body, at)
        if part is None or not (part[1] or part[2]):
            break
        digits = part[1] + (part[2] or "")
        total += int(digits) * _UNITS_NS[part[3]] // 10 ** len(part[2] or "")
        at = part.end()
    if not body or at < len(body) or total > _MAX_NS:
        raise ValueError(f'invalid duration "{text}"')
    return -total if text[0] == "-" else total
