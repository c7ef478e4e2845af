"""Trees laid over one another: the links are rebased, and nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from knarr.llb.ops import FileAction, MergeOp, MkDir, MkFile, Rm, Symlink
from knarr.ops import merge
from knarr.ops.trees import DiskTrees
from knarr.ops.world import World

from .conftest import act_on, listing
from .test_file import first

pytestmark = pytest.mark.root


def trees_of(world: World) -> DiskTrees:
    assert isinstance(world.trees, DiskTrees)
    return world.trees


def merge_of(trees: DiskTrees, records: Sequence[str], name: str) -> str:
    return merge.run(trees, MergeOp(tuple(range(len(records)))), records, name)


def merged(world: World, *records: str) -> dict[str, str]:
    assert merge_of(trees_of(world), records, "merged") == "merged"
    with world.trees.mounted("merged") as root:
        return listing(root)


def test_the_later_lies_over_the_earlier(world: World) -> None:
    act = act_on(world)
    base = act(None, FileAction(-1, MkFile("/f", 0o644, b"base")), FileAction(1, MkFile("/g", 0o644, b"g"), output=0))
    one = act(None, first(MkFile("/f", 0o644, b"one")))
    two = act(None, FileAction(-1, MkDir("/d", 0o755)), FileAction(1, MkFile("/d/f", 0o644, b"two"), output=0))
    assert merged(world, base, one, two) == {"d/": "", "d/f": "two", "f": "one", "g": "g"}


def test_a_directory_takes_the_place_of_a_link(world: World) -> None:
    act = act_on(world)
    base = act(None, FileAction(-1, MkDir("/real", 0o755)), FileAction(1, Symlink("/real", "/l"), output=0))
    over = act(None, FileAction(-1, MkDir("/l", 0o755)), FileAction(1, MkFile("/l/f", 0o644, b"f"), output=0))
    assert merged(world, base, over) == {"l/": "", "l/f": "f", "real/": ""}


def test_a_deletion_in_a_later_chain_also_deletes_below(world: World) -> None:
    act = act_on(world)
    base = act(None, FileAction(-1, MkFile("/gone", 0o644, b"")), FileAction(1, MkFile("/kept", 0o644, b""), output=0))
    over = act(None, first(MkFile("/gone", 0o644, b"")))
    over = act(over, FileAction(0, Rm("/gone"), output=0))
    assert merged(world, base, over) == {"kept": ""}


def test_the_layer_of_a_rebased_link_is_the_original(overlay: World) -> None:
    act = act_on(overlay)
    base = act(None, first(MkFile("/base", 0o644, b"")))
    one = act(None, first(MkFile("/one", 0o644, b"")))
    two = act(one, FileAction(0, MkFile("/two", 0o644, b""), output=0))
    trees = trees_of(overlay)
    merge_of(trees, [base, two], "merged")
    links = trees.chain("merged")
    assert [trees.change(link).id for link in links] == [base, one, two]
    assert links[-1].id == "merged"
    assert all(link.snapshot is None for link in links[1:])


def test_a_merge_of_a_merge_names_the_first_makers(overlay: World) -> None:
    act = act_on(overlay)
    base = act(None, first(MkFile("/base", 0o644, b"")))
    one = act(None, first(MkFile("/one", 0o644, b"")))
    two = act(None, first(MkFile("/two", 0o644, b"")))
    trees = trees_of(overlay)
    merge_of(trees, [base, one], "inner")
    merge_of(trees, [two, "inner"], "outer")
    assert [link.same_as for link in trees.chain("outer")] == [None, base, one]


def test_a_merge_of_one_is_that_one_by_another_name(overlay: World) -> None:
    act = act_on(overlay)
    base = act(None, first(MkFile("/base", 0o644, b"")))
    assert merged(overlay, base) == {"base": ""}


def test_the_same_inputs_make_the_same_inner_names(overlay: World) -> None:
    act = act_on(overlay)
    base = act(None, first(MkFile("/base", 0o644, b"")))
    tall = act(act(None, first(MkFile("/1", 0o644, b""))), FileAction(0, MkFile("/2", 0o644, b""), output=0))
    trees = trees_of(overlay)
    merge_of(trees, [base, tall], "merged")
    names = [link.id for link in trees.chain("merged")]
    merge_of(trees, [base, tall], "merged")
    assert [link.id for link in trees.chain("merged")] == names


def test_inputs_are_taken_in_the_order_of_the_op_and_as_often(overlay: World) -> None:
    act = act_on(overlay)
    one, two = (act(None, first(MkFile("/f", 0o644, text))) for text in (b"one", b"two"))
    trees = trees_of(overlay)
    merge.run(trees, MergeOp((1, 0, 1)), [one, two], "merged")
    assert [trees.change(link).id for link in trees.chain("merged")] == [two, one, two]


def test_a_merge_of_empty_trees_is_empty(overlay: World) -> None:
    trees = trees_of(overlay)
    trees.alias(None, "empty")
    merge_of(trees, ["empty", "empty"], "merged")
    assert trees.chain("merged") == []
    with trees.mounted("merged") as root:
        assert listing(root) == {}
