"""Settings from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.config import Settings
from knarr.errors import UsageError


def test_knarr_root_decides_where_state_lives(tmp_path: Path) -> None:
    settings = Settings.from_environment({"KNARR_ROOT": str(tmp_path)})

    assert settings.content == tmp_path / "content"
    assert settings.snapshots == tmp_path / "snapshots"
    assert settings.cache_db == tmp_path / "cache.db"
    assert settings.run == tmp_path / "run"


@pytest.mark.skipif(os.geteuid() != 0, reason="the default for root")
def test_root_keeps_state_in_var_lib() -> None:
    assert Settings.from_environment({"HOME": "/root"}).root == Path("/var/lib/knarr")


def test_a_user_keeps_state_in_the_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert Settings.from_environment({"XDG_DATA_HOME": "/x"}).root == Path("/x/knarr")
    assert Settings.from_environment({"HOME": "/home/u"}).root == Path("/home/u/.local/share/knarr")
    with pytest.raises(UsageError, match="KNARR_ROOT"):
        Settings.from_environment({})


def test_hosts_directories_are_a_colon_separated_list() -> None:
    settings = Settings.from_environment({"KNARR_ROOT": "/r", "KNARR_HOSTS_DIR": "/a/certs.d:/b"})

    assert settings.hosts_dirs == (Path("/a/certs.d"), Path("/b"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("KNARR_SNAPSHOTTER", "zfs"), ("KNARR_OCI_RUNTIME", "youki"), ("SOURCE_DATE_EPOCH", "yesterday")],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        Settings.from_environment({"KNARR_ROOT": "/r", name: value})


def test_a_runtime_may_be_given_by_path() -> None:
    settings = Settings.from_environment({"KNARR_ROOT": "/r", "KNARR_OCI_RUNTIME": "/opt/bin/runc"})

    assert settings.oci_runtime == "/opt/bin/runc"
