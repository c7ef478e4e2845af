"""Records behave as frozen dataclasses do."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from knarr.record import field, fields, record, replace


@record
class Point:
    """A point."""

    x: int
    y: int = 0
    notes: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def far(self) -> bool:
        return self.x > 10


@record
class Named(Point):
    name: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("negative")


def test_defaults_and_keywords() -> None:
    point = Point(1, notes={"a": "b"})
    assert (point.x, point.y, point.notes) == (1, 0, {"a": "b"})
    assert Point(1).notes is not Point(1).notes


def test_equality_is_by_value_and_by_class() -> None:
    assert Point(1, 2) == Point(1, 2)
    assert Point(1, 2) != Point(2, 1)
    assert Point(1) != Named(1)


def test_hash_leaves_out_what_is_marked() -> None:
    assert hash(Point(1, notes={"a": "b"})) == hash(Point(1))


def test_frozen_and_slotted() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del point.x
    assert not hasattr(point, "__dict__")


def test_replace_makes_another() -> None:
    assert replace(Point(1, 2), y=3) == Point(1, 3)
    with pytest.raises(TypeError):
        replace(Point(1), z=3)


def test_inherited_fields_come_first_and_are_checked() -> None:
    assert fields(Named) == ("x", "y", "notes", "name")
    assert Named(1, name="n").name == "n"
    with pytest.raises(ValueError, match="negative"):
        Named(-1)


def test_repr_shows_the_fields() -> None:
    assert repr(Named(1, 2, name="hidden")) == "Named(x=1, y=2, notes={})"


def test_missing_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        Point()  # type: ignore[call-arg]


def test_pickles() -> None:
    assert pickle.loads(pickle.dumps(Named(1, name="n"))) == Named(1, name="n")


def test_methods_and_matching_stay() -> None:
    assert Point(11).far
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


@record
class Keyed:
    key: ClassVar[str] = "k"
    value: int = 0


def test_class_variables_are_no_fields() -> None:
    assert fields(Keyed) == ("value",)
    assert Keyed(1).key == Keyed.key == "k"


@record(kw_only=True)
class Flagged(Point):
    flag: bool
    other: str = ""


def test_fields_by_keyword_may_follow_defaults() -> None:
    assert Flagged(1, flag=True).flag
    with pytest.raises(TypeError):
        Flagged(1, 2, {}, True)  # type: ignore[call-arg]
    assert pickle.loads(pickle.dumps(Flagged(1, flag=True))) == Flagged(1, flag=True)


def outcome(cls: Any, args: list[int], named: dict[str, int]) -> Any:
    try:
        made = cls(*args, **named)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return [getattr(made, name) for name in fields(made)]


NAMES = ["x", "y", "notes", "flag", "other", "unknown"]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-1, 1), max_size=4), st.dictionaries(st.sampled_from(NAMES), st.integers(-1, 1)))
@example([1], {"flag": 1})
@example([], {"x": -1, "flag": 1})
def test_the_first_records_of_a_class_are_made_as_all_others(args: list[int], named: dict[str, int]) -> None:
    def fresh() -> Any:
        @record(kw_only=True)
        class Counted(Point):
            flag: bool
            other: str = ""

            def __post_init__(self) -> None:
                if self.x < 0:
                    raise ValueError("negative")

        return Counted

    later = fresh()
    by_hand = later.__init__
    for _ in range(50):
        later(1, flag=True)
    assert later.__init__ is not by_hand

    assert outcome(fresh(), args, named) == outcome(later, args, named)
