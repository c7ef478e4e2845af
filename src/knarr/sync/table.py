"""A table of a configuration file, read member by member with the type that is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from knarr.errors import UsageError

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d))+?")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Table:
    """The members of `data`; `where` says for messages which table of which file it is."""

    def __init__(self, data: object, where: str) -> None:
        if data is None:
            data = {}
        if not isinstance(data, Mapping):
            raise UsageError(f"{where}: must be a table, not {_kind(data)}")
        self._data: Mapping[str, Any] = data
        self.where = where
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self._data.get(name) is not None

    def names(self) -> list[str]:
        return [str(name) for name in self._data]

    def take(self, name: str) -> Any:
        """A member as it is, or None."""
        self._read.add(name)
        return self._data.get(name)

    def text(self, name: str, default: str = "") -> str:
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self._wrong(name, "text", value)
        return str(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def number(self, name: str, default: int = 0, *, least: int = 0) -> int:
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self._wrong(name, f"a whole number from {least}", value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; one text alone stands for a list of one."""
        value = self.take(name)
        if value is None:
            return ()
        items = [value] if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value
        if not isinstance(items, list) or not all(isinstance(item, (str, int, float)) for item in items):
            raise self._wrong(name, "a list of texts", value)
        return tuple(str(item) for item in items)

    def seconds(self, name: str, default: float = 0.0) -> float:
        """A duration as Go writes it: `90s`, `1h30m`, also `2d`."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool):
            return value / 1e9 if value > 1_000_000 else float(value)  # Go's nanoseconds, or plain seconds
        found = re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d))+", value) if isinstance(value, str) else None
        if found is None:
            raise self._wrong(name, "a duration such as 90s, 15m or 6h", value)
        return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(value))

    def table(self, name: str) -> Table:
        return Table(self.take(name), f"{self.where}: {name}")

    def tables(self, name: str) -> Iterator[Table]:
        value = self.take(name)
        if value is None:
            return
        if not isinstance(value, list):
            raise self._wrong(name, "a list", value)
        for number, item in enumerate(value, 1):
            yield Table(item, f"{self.where}: {name} {number}")

    def end(self) -> None:
        """Every member must have been asked for.

        Raises:
            UsageError: one was not: a slip of the pen, with a near name as the hint.
        """
        from difflib import get_close_matches

        for name in self._data:
            if name not in self._read:
                near = get_close_matches(str(name), sorted(self._read), n=1, cutoff=0.6)
                known = ", ".join(sorted(self._read))
                hint = f"did you mean {near[0]}?" if near else f"there is: {known}"
                raise UsageError(f"{self.where}: {name} is not known", hint=hint)

    def _wrong(self, name: str, wanted: str, value: object) -> UsageError:
        return UsageError(f"{self.where}: {name} must be {wanted}, not {_kind(value)}")


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, list) else repr(value)[:60]
