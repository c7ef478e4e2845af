"""When a task is due: every so often, or at times as cron writes them. Pure; times are seconds since 1970.

    next_due("30 2 * * 1-5", 0.0, after)     # minute hour day month weekday, local time

Spec: POSIX crontab, with the names, steps and `@daily` that cron programs share
(regsync reads them with robfig/cron 3).
"""

from __future__ import annotations

import time

from knarr.errors import UsageError

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_HORIZON_DAYS = 366 * 40  # day, month and weekday together come round every 28 years


def check_cron(text: str, where: str) -> None:
    """Read a cron expression.

    Raises:
        UsageError: malformed, or no time ever fits it.
    """
    try:
        next_due(text, 0.0, 1_700_000_000.0)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from error


def next_due(cron: str, every_s: float, after: float) -> float:
    """The first time after `after` at which a task is due; infinity for one without a schedule.

    Raises:
        UsageError: the cron expression is malformed, or never comes true.
    """
    if not cron:
        return after + every_s if every_s else float("inf")
    if cron.startswith("@every "):
        from knarr.sync.table import Table

        return after + Table({"every": cron.removeprefix("@every ")}, "schedule").seconds("every")
    minutes, hours, days, months, weekdays, either = _parsed(cron)
    moment = (int(after) // 60 + 1) * 60
    for _ in range(_HORIZON_DAYS):
        now = time.localtime(moment)
        day_fits = now.tm_mday in days
        weekday_fits = (now.tm_wday + 1) % 7 in weekdays
        fits = (day_fits or weekday_fits) if either else (day_fits and weekday_fits)
        if now.tm_mon in months and fits:
            for second in range(moment, _midnight(now), 60):
                at = time.localtime(second)
                if at.tm_hour in hours and at.tm_min in minutes:
                    return float(second)
        moment = _midnight(now)
    raise UsageError(f"schedule {cron!r} never comes true")


def _midnight(now: time.struct_time) -> int:
    """The beginning of the next day, whatever happens to clocks in between."""
    return int(time.mktime((now.tm_year, now.tm_mon, now.tm_mday + 1, 0, 0, 0, 0, 0, -1)))


def _parsed(cron: str) -> tuple[set[int], set[int], set[int], set[int], set[int], bool]:
    words = _WORDS.get(cron, cron).split()
    if len(words) != 5:
        raise UsageError(
            f"schedule {cron!r}: must have five fields", hint="minute hour day month weekday, such as '30 2 * * 1-5'"
        )
    sets = [_set(word, *field) for word, field in zip(words, _FIELDS, strict=True)]
    weekdays = {0 if day == 7 else day for day in sets[4]}
    # Where both days are restricted, either is enough: crontab's old rule.
    either = not words[2].startswith(("*", "?")) and not words[4].startswith(("*", "?"))
    return sets[0], sets[1], sets[2], sets[3], weekdays, either


def _set(word: str, name: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step_text = part.partition("/")
        step = int(step_text) if step_text.isdigit() else 0
        if slash and not step:
            raise UsageError(f"schedule: {name} {word!r}: the step must be a number")
        if span in ("*", "?"):
            first, last = least, most
        else:
            start, dash, end = span.partition("-")
            first = _number(start, name, word)
            last = _number(end, name, word) if dash else (most if slash else first)
        if not least <= first <= last <= most:
            raise UsageError(f"schedule: {name} {word!r}: must be from {least} to {most}")
        found.update(range(first, last + 1, step or 1))
    return found


def _number(text: str, name: str, word: str) -> int:
    names = _MONTHS if name == "month" else _DAYS if name == "day of week" else ()
    if text.lower()[:3] in names:
        return names.index(text.lower()[:3]) + (name == "month")
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"schedule: {name} {word!r}: not a number")
    return int(text)
