from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.runtime.hosts import hosts_file, resolv_conf


def test_hosts_has_two_lines_and_the_extra_ones() -> None:
    text = hosts_file("box", [("db", "10.0.0.1"), ("db6", "fd00::1")])
    assert text == "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\tdb\nfd00::1\tdb6\n"


@pytest.mark.parametrize("pair", [("a\n1.2.3.4 b", "10.0.0.1"), ("a", "10.0.0.1\n"), ("", "10.0.0.1"), ("a", "")])
def test_a_name_that_would_be_a_line_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="extra host"):
        hosts_file("box", [pair])


def test_the_stub_of_systemd_is_replaced_where_it_cannot_be_reached(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("# managed\nnameserver 127.0.0.53\noptions edns0\n")
    real.write_text("nameserver 192.0.2.1\n")
    assert resolv_conf(own_network=True, source=stub, behind_stub=real) == "nameserver 192.0.2.1\n"
    assert resolv_conf(own_network=False, source=stub, behind_stub=real) == stub.read_text()
    stub.write_text("nameserver 192.0.2.9\nnameserver 127.0.0.53\n")
    assert resolv_conf(own_network=True, source=stub, behind_stub=real) == stub.read_text()


def test_a_machine_without_resolv_conf(tmp_path: Path) -> None:
    assert resolv_conf(own_network=True, source=tmp_path / "none", behind_stub=tmp_path / "none") == ""
