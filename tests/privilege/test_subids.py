from __future__ import annotations

from pathlib import Path

import pytest

from knarr.privilege.subids import Range, as_root, subordinate

CASES = [
    ("app:100000:65536\n", (Range(100000, 65536),)),
    ("1000:5:1\napp:7:2\nother:9:9\n", (Range(5, 1), Range(7, 2))),
    ("", ()),
    ("app:0:65536\n", ()),  # root of the machine is nobody's to give
    ("app:1:0\napp:-1:5\napp:x:5\napp\napp:1\n#app:1:2\n", ()),
    ("app:4294967294:1\napp:4294967295:1\napp:1:99999999999\n", (Range(4294967294, 1),)),
    ("app:١:٢\n", ()),
]


@pytest.mark.parametrize(("text", "found"), CASES)
def test_ranges_are_those_of_the_user_by_name_or_number(tmp_path: Path, text: str, found: tuple[Range, ...]) -> None:
    (tmp_path / "subuid").write_text(text)
    assert subordinate(str(tmp_path / "subuid"), 1000, "app") == found


def test_a_missing_file_gives_nobody_anything(tmp_path: Path) -> None:
    assert subordinate(str(tmp_path / "subuid"), 1000, "app") == ()


def test_the_user_is_root_and_its_ranges_follow_one_another() -> None:
    assert as_root(1000, (Range(100000, 10), Range(500, 5))) == ((0, 1000, 1), (1, 100000, 10), (11, 500, 5))
