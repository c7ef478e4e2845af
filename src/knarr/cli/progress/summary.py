"""The last lines of a build: its warnings, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knarr.cli.progress.figures import plural, size
from knarr.cli.progress.steps import Step, Steps
from knarr.record import record

_SLOWEST = 3
_WIDTH = 90
_WORTH_TELLING_NS = 1_000_000_000


@record
class Result:
    """What a build has made, as the summary tells it."""

    digest: str = ""
    names: tuple[str, ...] = ()
    pushed: bool = False
    size_bytes: int = 0
    platforms: tuple[str, ...] = ()
    places: tuple[str, ...] = ()  # files and directories written


def warnings_text(steps: Steps) -> str:
    """The warnings as BuildKit's clients list them at the end; "" when there are none."""
    if not steps.warnings:
        return ""
    count = len(steps.warnings)
    lines = [f" {plural(count, 'warning')} found:"]
    for warning in steps.warnings:
        place = f" (line {warning.line})" if warning.line else ""
        lines.append(f" - {warning.message}{place}")
    return "\n" + "\n".join(lines)


def summary_text(steps: Steps, result: Result, timings: Mapping[str, float], total_s: float) -> str:
    """What was built, from how many steps, how large, and where the time went."""
    own = [step for step in steps.by_id.values() if not step.internal]
    cached = sum(step.cached for step in own)
    about = f"{plural(len(own), 'step')}, {cached} cached" if own else ""
    lines = ["", f"Built{_for(result.platforms)} in {total_s:.1f}s" + (f" ({about})" if about else "")]
    verb = "pushed" if result.pushed else "image"
    lines += [f"  {verb:<8}{name}" for name in result.names]
    lines += [f"  {'wrote':<8}{place}" for place in result.places]
    if result.digest:
        lines.append(f"  {'digest':<8}{result.digest}")
    if result.size_bytes:
        lines.append(f"  {'size':<8}{size(result.size_bytes)}")
    if timings:
        lines.append(f"  {'time':<8}" + ", ".join(f"{phase} {spent:.1f}s" for phase, spent in timings.items()))
    lines += [f"  {'':<8}{_took(step) / 1e9:.1f}s {_short(step.name)}" for step in _slowest(own)]
    return "\n".join(lines)


def _for(platforms: Sequence[str]) -> str:
    return f" {', '.join(platforms)}" if platforms else ""


def _short(name: str) -> str:
    """A step's name on one line: runs of spaces as one, the end cut off."""
    words = " ".join(name.split())
    return words if len(words) <= _WIDTH else words[: _WIDTH - 1] + "…"


def _took(step: Step) -> int:
    return step.done_ns - step.started_ns


def _slowest(steps: Sequence[Step]) -> list[Step]:
    long = [step for step in steps if step.done_ns and not step.cached and _took(step) >= _WORTH_TELLING_NS]
    return sorted(long, key=_took, reverse=True)[:_SLOWEST]
