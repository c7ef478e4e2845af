"""Source policies travel and come back as they were; what no rule can mean is refused with its number."""

from __future__ import annotations

import pytest

from knarr.buildkit.policies import policies, to_message
from knarr.errors import UsageError
from knarr.llb.sourcepolicy import Constraint, Rule, SourcePolicy
from knarr.pb import sourcepolicy_pb2 as pb

RULES = (
    Rule("DENY", "docker-image://*"),
    Rule(
        "ALLOW", "docker-image://docker.io/library/.*", "REGEX", (Constraint("image.resolvemode", "pull", "NOTEQUAL"),)
    ),
    Rule("CONVERT", "https://example.com/a", "EXACT", (), "https://mirror.example/a", {"http.checksum": "sha256:abc"}),
    Rule("CONVERT", "https://example.com/*", "WILDCARD", (Constraint("k", "^v", "MATCHES"),), "", {"k": "v"}),
)


def test_rules_come_back_as_they_were() -> None:
    message = to_message([SourcePolicy(RULES[:2]), SourcePolicy(RULES[2:])])
    again = pb.Policy.FromString(message.SerializeToString())
    assert again.version == 1
    assert policies([again]) == (SourcePolicy(RULES),)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (pb.Rule(), "rule 1: invalid nil selector"),
        (pb.Rule(selector=pb.Selector(identifier="(", match_type="REGEX")), "rule 1: '(' is no regular expression"),
        (
            pb.Rule(action="CONVERT", selector=pb.Selector(identifier="a")),
            "rule 1: missing destination for convert rule",
        ),
        (pb.Rule(action=9, selector=pb.Selector(identifier="a")), "rule 1: unknown type 9"),  # type: ignore[arg-type]
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule: pb.Rule, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        policies([pb.Policy(rules=[rule])])
    assert says in caught.value.message
