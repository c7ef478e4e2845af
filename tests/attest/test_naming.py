"""The rules of signedIdentity, as containers-policy.json(5) tells them."""

from __future__ import annotations

import pytest

from knarr.attest.naming import EXACT, EXACT_REFERENCE, EXACT_REPOSITORY, REMAP, REPOSITORY, TAG_OR_REPOSITORY, NameRule

APP = "registry.example/app"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("rule", "signed", "now", "takes"),
    [
        (NameRule(), "", f"{APP}:1", True),
        (NameRule(EXACT), f"{APP}:1", f"{APP}:1", True),
        (NameRule(EXACT), f"{APP}:2", f"{APP}:1", False),
        (NameRule(EXACT), APP, f"{APP}:1", False),
        (NameRule(EXACT), f"{APP}:1", f"{APP}@{DIGEST}", False),
        (NameRule(EXACT), "", "", False),
        (NameRule(TAG_OR_REPOSITORY), f"{APP}:1", f"{APP}:1", True),
        (NameRule(TAG_OR_REPOSITORY), APP, f"{APP}:1", False),
        (NameRule(TAG_OR_REPOSITORY), f"{APP}:9", f"{APP}@{DIGEST}", True),
        (NameRule(TAG_OR_REPOSITORY), "registry.example/other:9", f"{APP}@{DIGEST}", False),
        (NameRule(REPOSITORY), APP, f"{APP}:1", True),
        (NameRule(REPOSITORY), f"{APP}:9", f"{APP}:1", True),
        (NameRule(REPOSITORY), "registry.example/application", f"{APP}:1", False),
        (NameRule(REPOSITORY), "not a name", f"{APP}:1", False),
        (NameRule(EXACT_REFERENCE, f"{APP}:1"), f"{APP}:1", "mirror.example/x:7", True),
        (NameRule(EXACT_REFERENCE, f"{APP}:1"), f"{APP}:2", "mirror.example/x:7", False),
        (NameRule(EXACT_REPOSITORY, APP), f"{APP}:2", "mirror.example/x:7", True),
        (NameRule(REMAP, "mirror.example", "registry.example"), f"{APP}:1", "mirror.example/app:1", True),
        (NameRule(REMAP, "mirror.example", "registry.example"), f"{APP}:2", "mirror.example/app:1", False),
        (NameRule(REMAP, "mirror.example/app", APP), f"{APP}:1", "mirror.example/app:1", True),
        (NameRule(REMAP, "mirror.example/app", APP), f"{APP}:1", f"mirror.example/app@{DIGEST}", True),
        (NameRule(REMAP, "mirror.example/a", APP), f"{APP}:1", "mirror.example/app:1", False),
        (NameRule(REPOSITORY), "docker.io/library/busybox", "busybox", True),
    ],
)
def test_a_name_fits_or_does_not(rule: NameRule, signed: str, now: str, takes: bool) -> None:
    assert rule.takes(signed, now) is takes
