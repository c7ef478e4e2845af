"""Near misses: which known name somebody may have meant. Distances as BuildKit's, so the same words are suggested."""

from __future__ import annotations

from collections.abc import Iterable

MAX_DISTANCE = 2  # single-character edits; beyond that a guess is more often wrong than right


def nearest(word: str, known: Iterable[str], *, ignore_case: bool = False) -> str:
    """The known name closest to `word` within MAX_DISTANCE edits, or "".

    With `ignore_case` the answer comes in the case of `word` where that is all
    lower or all upper.
    """
    wanted = word.lower() if ignore_case else word
    best, best_distance = "", MAX_DISTANCE + 1
    for name in known:
        candidate = name.lower() if ignore_case else name
        if candidate == wanted:
            return ""  # it is not the name that is wrong
        distance = edit_distance(wanted, candidate, limit=best_distance)
        if distance < best_distance:
            best, best_distance = name, distance
    return _in_case_of(word, best) if ignore_case else best


def did_you_mean(word: str, known: Iterable[str], *, ignore_case: bool = False) -> str:
    """A hint that names the nearest known name, or ""."""
    name = nearest(word, known, ignore_case=ignore_case)
    return f"did you mean {name}?" if name else ""


def edit_distance(left: str, right: str, *, limit: int) -> int:
    """Levenshtein's distance, or `limit` when it is that or more."""
    if abs(len(left) - len(right)) >= limit:
        return limit
    same = 0  # leading characters that cost nothing
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        same += 1
    left, right = left[same:], right[same:]
    previous = list(range(len(right) + 1))
    for row, a in enumerate(left, 1):
        current = [row]
        for column, b in enumerate(right, 1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (a != b)))
        if min(current) >= limit:
            return limit
        previous = current
    return min(previous[-1], limit)


def _in_case_of(model: str, word: str) -> str:
    if model == model.lower():
        return word.lower()
    if model == model.upper():
        return word.upper()
    return word
