"""The functions of a template: Go's own, and those that docker adds to `--format`.

Spec: Go 1.22, text/template, "Functions"; docker, "Format command and log output".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_VERB = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d+))?([a-zA-Z%])")


def truth(value: object) -> bool:
    """Go's notion: zero, empty and nil are false."""
    return bool(value)


def shown(value: object) -> str:
    """A value as `{{.}}` prints it: Go's %v; nothing for what is not there."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{shown(value[key])}" for key in sorted(value, key=str)) + "]"
    if isinstance(value, Sequence):
        return "[" + " ".join(map(shown, value)) + "]"
    return str(value)


def compact(value: object) -> str:
    """JSON on one line, as Go's json.Marshal writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def pretty(value: object) -> str:
    """JSON with two spaces of indentation."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _print(*values: object) -> str:
    """Go's Sprint: a space between two operands of which none is text."""
    out = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            out += " "
        out += shown(value)
    return out


def _printf(form: str, *values: object) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        return _formatted(flags, width, precision, verb, rest.pop(0))

    return _VERB.sub(one, form)


def _formatted(flags: str, width: str, precision: str | None, verb: str, value: Any) -> str:
    if verb in "sv":
        text = shown(value)[: int(precision)] if precision else shown(value)
    elif verb == "q":
        text = json.dumps(shown(value), ensure_ascii=False)
    elif verb in "dxXobefgc":
        text = format(value, f"{'+' if '+' in flags else ''}{f'.{precision}' if precision else ''}{verb}")
    elif verb == "t":
        text = shown(bool(value))
    else:
        raise ValueError(f"verb %{verb} is not known")
    size = int(width or 0)
    if "-" in flags:
        return text.ljust(size)
    return text.zfill(size) if "0" in flags and verb in "dxXob" else text.rjust(size)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            return None
        if isinstance(value, Mapping):
            value = value.get(key)
            continue
        if not 0 <= key < len(value):
            raise LookupError(f"index {key} out of range")
        value = value[key]
    return value


def _slice(value: Any, *bounds: int) -> Any:
    start, end = (*bounds, 0)[0], bounds[1] if len(bounds) > 1 else len(value)
    if not 0 <= start <= end <= len(value):
        raise LookupError(f"slice bounds {start}:{end} out of range")
    return value[start:end]


def _eq(first: object, *others: object) -> bool:
    if not others:
        raise TypeError("missing argument for comparison")
    return any(first == other for other in others)


def _truncate(text: str, size: int) -> str:
    return text[:size]


def _pad(text: str, before: int, after: int) -> str:
    return f"{' ' * before}{text}{' ' * after}" if text else text


def _default(fallback: object, value: object = None) -> object:
    return value if truth(value) else fallback


BUILTIN: dict[str, Callable[..., Any]] = {
    "not": lambda value: not truth(value),
    "len": lambda value: len(value or ()),
    "index": _index,
    "slice": _slice,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(map(shown, values)) + "\n",
    "eq": _eq,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "json": compact,
    "jsonPretty": pretty,
    "join": lambda values, separator: separator.join(map(shown, values or ())),
    "split": lambda text, separator: text.split(separator),
    "lower": lambda text: shown(text).lower(),
    "upper": lambda text: shown(text).upper(),
    "title": lambda text: shown(text).title(),
    "pad": _pad,
    "truncate": _truncate,
    "default": _default,
}
