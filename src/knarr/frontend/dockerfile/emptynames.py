"""What is said of a variable that had no value where it was used, should that line fail because of it.

A COPY of `$DIR/app` where DIR is not set fails as "/app not found": what to do about
it is known only from the name. Loaded when there is such a name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from knarr.frontend.dockerfile.suggest import nearest

_MOST_KNOWN = 1000  # names to look for a near one among; more would take longer than the hint is worth


def sentence(name: str, env: Mapping[str, str], global_args: Collection[str]) -> str:
    """`name` is empty or not there in `env`; `global_args` are the ARGs before the first FROM."""
    if name in env:
        return f"${name} is empty here"
    if name in global_args:
        return f"${name} has no value here: an ARG before the first FROM holds in a stage that says ARG {name} again"
    near = nearest(name, (known for known in env if known != "PATH")) if len(env) <= _MOST_KNOWN else ""
    way = f"did you mean ${near}?" if near else "give it one with ARG or ENV in this stage, above this line"
    return f"${name} has no value here: {way}"
