"""HEALTHCHECK: its flags, its durations, its command."""

from __future__ import annotations

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.duration import parse_duration
from knarr.frontend.dockerfile.flags import read_flags
from knarr.frontend.dockerfile.instructions import Healthcheck
from knarr.frontend.dockerfile.statement import Statement, command_line, common, lacking
from knarr.frontend.dockerfile.words import SPACE

_MIN_INTERVAL_NS = 10**6


def read_healthcheck(statement: Statement) -> Healthcheck:
    if not statement.rest:
        raise lacking("HEALTHCHECK", "at least one argument")
    type_, _, rest = _partition_space(statement.rest)
    kind = type_.upper()
    if kind == "NONE":
        if rest:
            raise DockerfileError(
                "HEALTHCHECK NONE takes no arguments", hint="HEALTHCHECK CMD command checks with a command"
            )
        return Healthcheck(**common(statement), test=("NONE",))
    flags = read_flags("HEALTHCHECK", statement.flags)
    if kind != "CMD":
        raise DockerfileError(
            f'Unknown type "{kind}" in HEALTHCHECK (try CMD)', hint=f"HEALTHCHECK CMD {statement.rest}"
        )
    command = command_line(rest)
    if not command.args:
        raise DockerfileError("Missing command after HEALTHCHECK CMD", hint="HEALTHCHECK CMD curl -f http://localhost/")
    return Healthcheck(
        **common(statement),
        test=("CMD-SHELL" if command.shell else "CMD", *command.args),
        interval_ns=_interval("interval", flags.text("interval")),
        timeout_ns=_interval("timeout", flags.text("timeout")),
        start_period_ns=_interval("start-period", flags.text("start-period")),
        start_interval_ns=_interval("start-interval", flags.text("start-interval")),
        retries=_retries(flags.text("retries")),
    )


def _partition_space(text: str) -> tuple[str, str, str]:
    for at, char in enumerate(text):
        if char in SPACE:
            return text[:at], char, text[at:].lstrip(SPACE)
    return text, "", ""


def _interval(name: str, value: str) -> int:
    if not value:
        return 0
    try:
        duration = parse_duration(value)
    except ValueError as error:
        raise DockerfileError(f"--{name}: {error}", hint="a number with a unit, like 30s or 1m30s") from error
    if duration and duration < _MIN_INTERVAL_NS:
        raise DockerfileError(f'Interval "{name}" cannot be less than 1ms', hint="0 leaves it to the engine")
    return duration


def _retries(value: str) -> int:
    if not value:
        return 0
    digits = value[1:] if value[0] in "+-" else value
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 20 or int(digits) >= 2**31:
        raise DockerfileError(f"--retries: not a number: {value}", hint="such as --retries=3")
    if value[0] == "-" and int(digits):
        raise DockerfileError(f"--retries cannot be negative ({value})", hint="0 leaves it to the engine")
    return int(digits)
