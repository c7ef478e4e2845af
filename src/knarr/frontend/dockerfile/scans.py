"""What of a build its Dockerfile wants to have in the SBOM besides the result: other stages, and the context.

`ARG BUILDKIT_SBOM_SCAN_STAGE` and `ARG BUILDKIT_SBOM_SCAN_CONTEXT`, global or in a
stage, say so by `true`, or by a list of stages' names. Nothing is scanned that is not
built. Spec: BuildKit's docs/attestations/sbom.md at v0.33.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from knarr.frontend.dockerfile.gotext import truth
from knarr.llb.state import State

if TYPE_CHECKING:
    from knarr.frontend.dockerfile.plan import Plan
    from knarr.frontend.dockerfile.stagebuild import StageBuild

_CONTEXT, _STAGE = "BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"


def scanned_besides(plan: Plan) -> dict[str, State]:
    """The states to scan besides the target's, by name, once all stages are compiled."""
    found: dict[str, State] = {}
    if _asks(plan, plan.target, _CONTEXT):
        found["context"] = plan.build.context
    for stage in plan.reachable():
        if stage is not plan.target and stage.registered and _asks(plan, stage, _STAGE):
            found[stage.title] = stage.state
    return found


def ignores_cache(plan: Plan) -> bool:
    """Whether something that is scanned was to be made anew, and is to be scanned anew then."""
    scanned = [stage for stage in plan.reachable() if stage is plan.target or _asks(plan, stage, _STAGE)]
    return any(stage.ignore_cache for stage in scanned)


def _asks(plan: Plan, stage: StageBuild, name: str) -> bool:
    """Whether `stage` is to be scanned: the last that is said counts."""
    said = [plan.build.global_args.get(name), *(value for key, value in stage.args if key == name)]
    given = [value for value in said if value is not None]
    if not given:
        return False
    enabled = truth(given[-1])
    return stage.title in given[-1].split(",") if enabled is None else enabled
