"""Rules of who may do what in which repositories. Pure.

A rule grants; nothing forbids. Without any rule, everybody who has logged in may do
everything, and nobody else anything. Repositories are named by wildcards: `*` and
`?` stay within one component, `**` crosses them, `{user}` is the caller's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from knarr.record import record
from knarr.registry.rights import ACTIONS, PULL, Caller

ANONYMOUS = "anonymous"  # the word for who has not logged in; `*` is who has
_MOST = 4096  # compiled patterns, one for each pattern and user


@record
class Rule:
    """Grants `may` on `repositories` to `who`: names of users, `*`, `anonymous`, `cert:NAME`, `robot$NAME`."""

    who: tuple[str, ...]
    repositories: tuple[str, ...] = ("**",)
    may: tuple[str, ...] = (PULL,)


class Rules:
    """A set of rules, asked for one caller at a time."""

    def __init__(self, rules: Sequence[Rule] = (), *, anonymous_read: bool = False) -> None:
        rules = rules or (Rule(("*",), may=ACTIONS),)
        self._rules = (*rules, Rule((ANONYMOUS, "*"))) if anonymous_read else tuple(rules)

    @property
    def has_anonymous(self) -> bool:
        """Whether anything is granted to who has not logged in."""
        return any(ANONYMOUS in rule.who for rule in self._rules)

    def caller(self, name: str) -> Caller:
        """Somebody who has proven to be `name`; "" for nobody in particular."""
        mine = [rule for rule in self._rules if _is_meant(rule, name)]

        def may(action: str, repository: str) -> bool:
            return any(
                action in rule.may and any(matches(pattern, repository, name) for pattern in rule.repositories)
                for rule in mine
            )

        return Caller(name, may, reads=lambda repository: may(PULL, repository))


def matches(pattern: str, repository: str, user: str = "") -> bool:
    """Whether the whole of `repository` matches."""
    if pattern == "**":
        return True
    if "{user}" in pattern and not user:
        return False
    return _compiled(pattern, user).fullmatch(repository) is not None


@lru_cache(_MOST)
def _compiled(pattern: str, user: str) -> re.Pattern[str]:
    text = ""
    for part in re.split(r"(\*\*/?|\*|\?|\{user\})", pattern):
        if part == "**/":
            text += "(?:.*/)?"
        elif part == "**":
            text += ".*"
        elif part == "*":
            text += "[^/]*"
        elif part == "?":
            text += "[^/]"
        elif part == "{user}":
            text += re.escape(user)
        else:
            text += re.escape(part)
    return re.compile(text)


def _is_meant(rule: Rule, name: str) -> bool:
    if not name:
        return ANONYMOUS in rule.who
    return name in rule.who or "*" in rule.who
