"""Values as Go writes and reads them: history lines carry these texts, and history is part of an image's digest."""

from __future__ import annotations

from collections.abc import Iterable

_SHORT = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


_TRUTHS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def truth(text: str) -> bool | None:
    """A boolean as strconv.ParseBool reads it; None when it is none."""
    return _TRUTHS.get(text)


def listed(words: Iterable[str]) -> str:
    """A slice under `%v`: `[a b]`."""
    return f"[{' '.join(words)}]"


def quoted_list(words: Iterable[str]) -> str:
    """A slice under `%q`: `["a" "b"]`."""
    return listed(quoted(word) for word in words)


def quoted(text: str) -> str:
    """A string under `%q`, as strconv.Quote."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def html_safe(json_text: str) -> str:
    """JSON as Go writes it: what is special in HTML or JavaScript as escapes."""
    for char in "<>&\u2028\u2029":
        json_text = json_text.replace(char, f"\\u{ord(char):04x}")
    return json_text


def duration(nanoseconds: int) -> str:
    """A time.Duration: `0s`, `1.5ms`, `1m30s`, `2h0m0s`."""
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(nanoseconds)
    if rest == 0:
        return "0s"
    if rest < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if rest >= size:
                return f"{sign}{_decimal(rest, size)}{unit}"
    minutes, rest = divmod(rest, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = str(part).rjust(len(str(unit)) - 1, "0").rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)
