"""What builds are asked to attest, in the words of buildx and BuildKit."""

from __future__ import annotations

import pytest

from knarr.attest.wanted import ProvenanceOptions, provenance_options, wanted
from knarr.errors import UsageError


def test_kinds_and_options_are_found_among_the_frontends_options() -> None:
    found = wanted(
        {
            "attest:provenance": 'mode=max,"builder-id=a,b",inline-only=true',
            "build-arg:BUILDKIT_ATTEST_SBOM": "generator=x",
            "target": "app",
        }
    )

    assert found == {
        "provenance": {"mode": "max", "builder-id": "a,b", "inline-only": "true"},
        "sbom": {"generator": "x"},
    }


def test_a_kind_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown attestation type 'signature'"):
        wanted({"attest:signature": ""})


def test_options_of_provenance_have_buildkits_defaults() -> None:
    assert provenance_options({}) == ProvenanceOptions("v1", "max")
    assert provenance_options({"mode": "full", "unheard-of": "x"}).mode == "max"


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"version": "v2"}, "invalid provenance SLSA version: v2"),
        ({"version": ""}, "cannot be empty"),
        ({"mode": "some"}, "invalid mode 'some'"),
        ({"reproducible": "perhaps"}, "reproducible=perhaps"),
        ({"filename": ""}, "filename is empty"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(attrs: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        provenance_options(attrs)
