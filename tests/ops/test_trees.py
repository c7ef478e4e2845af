"""Records as trees: read, changed, lent, unpacked once, and packed in any compression."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from knarr.errors import Bug, NotFound
from knarr.layer.compress import Compression
from knarr.layer.decompress import open_compressed
from knarr.llb.ops import FileAction, MergeOp, MkDir, MkFile
from knarr.ops import merge
from knarr.ops.blobs import Blobs
from knarr.ops.copytree import Tree
from knarr.ops.trees import DiskTrees
from knarr.ops.world import World
from knarr.patterns import Matcher
from knarr.scope import Scope

from .conftest import act_on, listing, make_world, meta, plant
from .test_file import first

pytestmark = pytest.mark.root


def trees_of(world: World) -> DiskTrees:
    assert isinstance(world.trees, DiskTrees)
    return world.trees


def blobs_of(world: World) -> Blobs:
    return trees_of(world)._blobs


# --- writing


def test_an_active_tree_that_is_not_committed_is_gone(world: World) -> None:
    with world.trees.active(None) as active:
        Path(active.root, "f").write_text("x")
        root = active.root
    assert not os.path.exists(root)
    with pytest.raises(NotADirectoryError), world.trees.active(None) as active:
        os.rmdir("/dev/null")
    assert os.listdir(world.settings.root / "run/mnt") == []


def test_a_committed_tree_is_a_record_with_a_parent(world: World) -> None:
    with world.trees.active(None) as active:
        Path(active.root, "f").write_text("1")
        assert active.commit("one") == "one"
    with world.trees.active("one") as active:
        Path(active.root, "g").write_text("2")
        active.commit("two")
    trees = trees_of(world)
    assert [(link.id, link.parent) for link in trees.chain("two")] == [("one", None), ("two", "one")]
    with world.trees.readable("two") as tree:
        assert listing(tree.root) == {"f": "1", "g": "2"}


def test_a_saved_chain_is_there_for_the_next_build(tmp_path: Path) -> None:
    with Scope() as scope:
        for world in make_world(tmp_path / "state", scope, "overlayfs"):
            act = act_on(world)
            act(act(None, first(MkFile("/f", 0o644, b"1"))), FileAction(0, MkFile("/g", 0o644, b"2"), output=0))
        for world in make_world(tmp_path / "state", scope, "overlayfs"):
            with world.trees.mounted("made-1") as root:
                assert listing(root) == {"f": "1", "g": "2"}


def test_a_record_nobody_knows_is_a_defect(overlay: World) -> None:
    with pytest.raises(Bug, match="no record nope"), overlay.trees.mounted("nope"):
        pass


# --- lent directories


def test_a_lent_directory_is_read_where_it_is(overlay: World, tmp_path: Path) -> None:
    overlay.trees.lend("c", Tree(str(plant(tmp_path / "c", {"f": "f"})), zero_owner=True))
    with overlay.trees.readable("c") as tree:
        assert tree.root == str(tmp_path / "c")


def test_a_lent_directory_is_copied_once_for_who_mounts_it(world: World, tmp_path: Path) -> None:
    plant(tmp_path / "c", {"f": "f", "d/g": "g", "hidden": "", "l": "->f"})
    os.chown(tmp_path / "c/f", 5, 6)
    world.trees.lend("c", Tree(str(tmp_path / "c"), Matcher(("hidden",)), zero_owner=True))
    with world.trees.mounted("c") as root, world.trees.mounted("c") as again:
        assert listing(root) == listing(again) == {"f": "f", "d/": "", "d/g": "g", "l": "->f"}
        assert meta(root / "f")[1:3] == (0, 0)
        assert str(root) != str(tmp_path / "c")


def test_only_what_a_build_reads_is_copied(overlay: World, tmp_path: Path) -> None:
    plant(tmp_path / "c", {"f": "f", "d/g": "g", "d/h": "h", "other/x": "", "l": "->d"})
    overlay.trees.lend("c", Tree(str(tmp_path / "c"), zero_owner=True, only=("f", "d/g*", "l")))
    with overlay.trees.mounted("c") as root:
        assert listing(root) == {"f": "f", "d/": "", "d/g": "g", "l": "->d"}


def test_the_copy_of_a_lent_directory_ends_with_the_build(overlay: World, tmp_path: Path) -> None:
    overlay.trees.lend("c", Tree(str(plant(tmp_path / "c", {"f": "f"})), zero_owner=True))
    name = overlay.trees.materialised("c")
    assert name is not None
    assert overlay.snapshotter.stat(name) is not None
    trees_of(overlay).close()
    assert overlay.snapshotter.stat(name) is None


# --- packing and unpacking


@pytest.mark.parametrize(
    "compression",
    [
        Compression("zstd", force=True),
        Compression("uncompressed", force=True),
        Compression("gzip", level=1, force=True),
    ],
)
def test_a_layer_in_another_compression_is_the_same_tar(world: World, compression: Compression) -> None:
    record = act_on(world)(None, first(MkFile("/f", 0o644, b"x" * 5000)))
    trees, blobs = trees_of(world), blobs_of(world)
    plain = blobs.pack(trees.record(record), None)
    other = blobs.pack(trees.record(record), compression)
    assert plain.diff_id == other.diff_id
    assert plain.descriptor.digest != other.descriptor.digest
    tars = []
    for packed in (plain, other):
        with world.store.open(packed.descriptor) as stream:
            tars.append(open_compressed(stream).read())
    assert tars[0] == tars[1]
    assert blobs.pack(trees.record(record), compression) == other  # remembered


def test_a_layer_is_packed_once_for_all_who_ask(overlay: World) -> None:
    record = act_on(overlay)(None, first(MkFile("/f", 0o644, b"x" * 5000)))
    found = trees_of(overlay).record(record)
    results = []
    threads = [threading.Thread(target=lambda: results.append(blobs_of(overlay).pack(found, None))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(str, results))) == 1


def test_several_are_packed_in_the_order_given(overlay: World) -> None:
    act = act_on(overlay)
    records = [act(None, first(MkFile(f"/{number}", 0o644, b""))) for number in range(5)]
    links = [trees_of(overlay).record(record) for record in records]
    assert [link.id for link, _ in blobs_of(overlay).pack_all(links, None)] == records


def test_a_layer_that_is_neither_blob_nor_tree_any_more(overlay: World) -> None:
    record = act_on(overlay)(None, first(MkFile("/f", 0o644, b"")))
    packed = blobs_of(overlay).pack(trees_of(overlay).record(record), None)
    overlay.snapshotter.remove(record)
    overlay.store.delete(packed.descriptor.digest)
    with pytest.raises(NotFound, match="neither a blob nor a tree") as caught:
        blobs_of(overlay).pack(trees_of(overlay).record(record), Compression("zstd", force=True))
    assert caught.value.hint == "build it again"


def test_a_blob_without_its_snapshot_is_unpacked_again(overlay: World) -> None:
    act = act_on(overlay)
    record = act(None, FileAction(-1, MkDir("/d", 0o711)), FileAction(1, MkFile("/d/f", 0o640, b"f"), output=0))
    blobs_of(overlay).pack(trees_of(overlay).record(record), None)
    overlay.snapshotter.remove(record)
    with overlay.trees.mounted(record) as root:
        assert listing(root) == {"d/": "", "d/f": "f"}
        assert meta(root / "d")[0] == 0o711


def test_a_rebased_link_is_unpacked_by_several_threads_once(overlay: World) -> None:
    act = act_on(overlay)
    parts = [act(None, first(MkFile(f"/{number}", 0o644, b""))) for number in range(3)]
    trees = trees_of(overlay)
    merge.run(trees, MergeOp((0, 1, 2)), parts, "merged")
    found: list[dict[str, str]] = []

    def read() -> None:
        with trees.mounted("merged") as root:
            found.append(listing(root))

    with Scope() as scope:
        for _ in range(4):
            scope.start(read)
    assert found == [{"0": "", "1": "", "2": ""}] * 4
