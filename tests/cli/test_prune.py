"""The limits of `knarr prune`, and the table of `knarr du`."""

from __future__ import annotations

import pytest

from knarr.cache.record import Record
from knarr.cli.du import table
from knarr.cli.prune import run
from knarr.errors import UsageError


def test_a_script_must_say_that_it_means_it(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path))
    with pytest.raises(UsageError, match="without a question"):
        run([])


def test_the_largest_record_comes_first() -> None:
    lines = table(
        [Record("a", description="RUN small", size_bytes=5), Record("b", size_bytes=7_000_000)], verbose=False
    )
    assert [line.split()[0] for line in lines] == ["SIZE", "7.00MB", "5B", "7.00MB"]
    assert lines[2].endswith("RUN small")


def test_long_descriptions_are_cut_unless_all_is_wanted() -> None:
    record = Record("a", description="RUN " + "x" * 200)
    assert len(table([record], verbose=False)[1]) < 130
    assert "x" * 200 in table([record], verbose=True)[1]
