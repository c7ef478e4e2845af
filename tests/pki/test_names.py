"""Names on certificates, and what an authority may sign for."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.pki.names import Constraints, Names


def test_names_are_sorted_by_kind_and_ports_are_dropped() -> None:
    names = Names.parse(
        [
            "Registry.Corp.example:5000",
            "10.0.0.7:443",
            "[::1]:443",
            "::2",
            "*.corp.example",
            "spiffe://a/b",
            "a@b.example",
        ]
    )
    assert names.dns == ("registry.corp.example", "*.corp.example")
    assert names.addresses == (ip_address("10.0.0.7"), ip_address("::1"), ip_address("::2"))
    assert (names.uris, names.emails) == (("spiffe://a/b",), ("a@b.example",))


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "-a.example", "a..b", "*", "*a.example", "a.*.b", "a" * 64, "x/y", "ä.example"]
)
def test_what_can_be_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be a name"):
        Names.parse([text])


def test_constraints_know_what_is_below_a_domain_and_in_a_network() -> None:
    permitted = Constraints.parse([".corp.example", "10.0.0.0/8"])
    assert permitted == Constraints(("corp.example",), (ip_network("10.0.0.0/8"),))
    assert permitted.refused(Names.parse(["corp.example", "a.b.corp.example", "*.corp.example", "10.1.2.3"])) == []
    assert permitted.refused(Names.parse(["notcorp.example", "corp.example.evil", "11.0.0.1", "::1"])) == [
        "notcorp.example",
        "corp.example.evil",
        "11.0.0.1",
        "::1",
    ]


def test_who_permits_only_domains_permits_no_address() -> None:
    assert Constraints.parse(["corp.example"]).refused(Names.parse(["127.0.0.1"])) == ["127.0.0.1"]


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_a_usage_error(text: str) -> None:
    try:
        names = Names.parse([text])
    except UsageError:
        return
    assert list(names) != []
