"""The `--flag` words of instructions: which exist, what kind each is, what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.suggest import nearest
from knarr.record import record


class Kind(Enum):
    """How often a flag may come, and what its value may be."""

    TEXT = "one value"
    LIST = "one value, repeatable"
    BOOL = "true, false or bare"


_TRANSFER = {"chown": Kind.TEXT, "chmod": Kind.TEXT, "link": Kind.BOOL, "exclude": Kind.LIST}
KNOWN: Mapping[str, Mapping[str, Kind]] = {
    "FROM": {"platform": Kind.TEXT},
    "RUN": {"mount": Kind.LIST, "network": Kind.TEXT, "security": Kind.TEXT, "device": Kind.LIST},
    "COPY": {**_TRANSFER, "from": Kind.TEXT, "parents": Kind.BOOL},
    "ADD": {**_TRANSFER, "keep-git-dir": Kind.BOOL, "checksum": Kind.TEXT, "unpack": Kind.BOOL},
    "HEALTHCHECK": {
        "interval": Kind.TEXT,
        "timeout": Kind.TEXT,
        "start-period": Kind.TEXT,
        "start-interval": Kind.TEXT,
        "retries": Kind.TEXT,
    },
}


@record
class Flags:
    """What was given. Every value is a tuple, in order; a boolean's is "true" or "false"."""

    values: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.values)

    def text(self, name: str, default: str = "") -> str:
        return self.values[name][-1] if name in self.values else default

    def many(self, name: str) -> tuple[str, ...]:
        return self.values.get(name, ())

    def truth(self, name: str) -> bool | None:
        """None when the flag was not given."""
        return self.values[name][-1] == "true" if name in self.values else None


_NONE = Flags({})


def read_flags(keyword: str, words: Sequence[str]) -> Flags:
    """Check the flags of one instruction.

    Raises:
        DockerfileError: an unknown flag (with the nearest known one as hint), one given
            twice, or a value that is missing or not a boolean.
    """
    if not words:
        return _NONE
    known = KNOWN.get(keyword, {})
    values: dict[str, tuple[str, ...]] = {}
    for word in words:
        flag, equals, value = word.partition("=")
        name = flag[2:]
        kind = known.get(name)
        if kind is None:
            raise DockerfileError(f"unknown flag: {flag}", hint=_other_flag(keyword, name, known))
        if name in values and kind is not Kind.LIST:
            raise DockerfileError(f"duplicate flag specified: {flag}", hint="one of them has to go")
        if not value and bool(equals) == (kind is Kind.BOOL):  # "--from=" is fine, "--link=" and "--from" are not
            hint = f"{flag}, or {flag}=false" if kind is Kind.BOOL else f"{flag}=VALUE"
            raise DockerfileError(f"missing a value on flag: {flag}", hint=hint)
        if kind is Kind.BOOL:
            value = _boolean(flag, value)
        values[name] = (*values.get(name, ()), value)
    return Flags(values)


def _boolean(flag: str, value: str) -> str:
    lower = value.lower() or "true"
    if lower not in ("true", "false"):
        raise DockerfileError(f"expecting boolean value for flag {flag}, not: {value}", hint="true or false")
    return lower


def _other_flag(keyword: str, name: str, known: Mapping[str, Kind]) -> str:
    near = name.lower() if name.lower() in known else nearest(name, known)
    if near:
        return f"did you mean {near}?"
    if not known:
        return f"{keyword} has no flags"
    return f"{keyword} knows " + ", ".join(f"--{flag}" for flag in sorted(known))
