"""Source policies as they travel: BuildKit's messages as records."""

from __future__ import annotations

from collections.abc import Iterable

from knarr.errors import UsageError
from knarr.llb.sourcepolicy import ACTIONS, CONDITIONS, MATCH_TYPES, Constraint, Rule, SourcePolicy, checked
from knarr.pb import sourcepolicy_pb2 as pb


def policies(messages: Iterable[pb.Policy]) -> tuple[SourcePolicy, ...]:
    """The policies of a request.

    Raises:
        UsageError: a rule cannot be meant.
    """
    return tuple(policy(message) for message in messages)


def policy(message: pb.Policy) -> SourcePolicy:
    """One policy.

    Raises:
        UsageError: a rule cannot be meant.
    """
    return SourcePolicy(tuple(_rule(rule, f"source policy: rule {n}") for n, rule in enumerate(message.rules, 1)))


def to_message(policies: Iterable[SourcePolicy]) -> pb.Policy:
    """All rules as one message, for a builder elsewhere."""
    return pb.Policy(version=1, rules=[_message(rule) for policy in policies for rule in policy.rules])


def _rule(message: pb.Rule, where: str) -> Rule:
    if not message.HasField("selector"):
        raise UsageError(f"{where}: invalid nil selector in policy")  # BuildKit's words
    selector = message.selector
    constraints = tuple(
        Constraint(one.key, one.value, _word(one.condition, CONDITIONS, where)) for one in selector.constraints
    )
    rule = Rule(
        _word(message.action, ACTIONS, where),
        selector.identifier,
        _word(selector.match_type, MATCH_TYPES, where),
        constraints,
        message.updates.identifier if message.HasField("updates") else None,
        dict(message.updates.attrs),
    )
    return checked(rule, where)


def _message(rule: Rule) -> pb.Rule:
    selector = pb.Selector(
        identifier=rule.identifier,
        match_type=MATCH_TYPES.index(rule.match_type),  # type: ignore[arg-type]  # the numbers of the enum
        constraints=[
            pb.AttrConstraint(
                key=one.key,
                value=one.value,
                condition=CONDITIONS.index(one.condition),  # type: ignore[arg-type]
            )
            for one in rule.constraints
        ],
    )
    updates = None if rule.target is None else pb.Update(identifier=rule.target, attrs=dict(rule.attrs))
    return pb.Rule(action=ACTIONS.index(rule.action), selector=selector, updates=updates)  # type: ignore[arg-type]


def _word(number: int, known: tuple[str, ...], where: str) -> str:
    if not 0 <= number < len(known):
        raise UsageError(f"{where}: unknown type {number}", hint=f"known are: {', '.join(known)}")  # BuildKit's words
    return known[number]
