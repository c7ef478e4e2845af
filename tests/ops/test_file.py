"""The file op on real snapshots: chains of actions, several inputs, and what a user is told."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from knarr.errors import Bug, ContentError, KnarrError
from knarr.llb.ops import NO_INPUT, ChownOpt, Copy, FileAction, FileOp, MkDir, MkFile, Rm, Symlink, UserOpt
from knarr.ops import file
from knarr.ops.copytree import Tree
from knarr.ops.world import World
from knarr.patterns import Matcher

from .conftest import act_on, listing, meta, plant

pytestmark = pytest.mark.root

STAMP = 1_600_000_000 * 10**9


def lend(world: World, root: Path, files: dict[str, str], hidden: tuple[str, ...] = ()) -> str:
    plant(root, files)
    world.trees.lend("context", Tree(str(root), Matcher(hidden) if hidden else None, zero_owner=True))
    return "context"


def copy(src: str, dest: str, **options: object) -> FileAction:
    """A COPY as the Dockerfile frontend writes it, from the second input to the first."""
    usual: dict[str, object] = {
        "follow_symlink": True,
        "dir_copy_contents": True,
        "create_dest_path": True,
        "allow_wildcard": True,
        "allow_empty_wildcard": True,
    }
    return FileAction(0, Copy(src, dest, **{**usual, **options}), 1, 0)  # type: ignore[arg-type]


def first(action: object) -> FileAction:
    return FileAction(NO_INPUT, action, output=0)  # type: ignore[arg-type]


# --- the actions


def test_every_action_in_one_chain(world: World) -> None:
    name = file.run(
        world,
        FileOp(
            (
                FileAction(NO_INPUT, MkDir("/a/b", 0o750, make_parents=True)),
                FileAction(0, MkFile("/a/b/f", 0o640, b"data")),
                FileAction(1, Symlink("../b/f", "/a/l")),
                FileAction(2, Copy("/a/b", "/c", dir_copy_contents=True, create_dest_path=True), 2),
                FileAction(3, Rm("/a/b/f"), output=0),
            )
        ),
        (),
        {0: "all"},
    )
    assert name == ["all"]
    with world.trees.mounted("all") as root:
        assert listing(root) == {"a/": "", "a/b/": "", "a/l": "->../b/f", "c/": "", "c/f": "data"}
        assert meta(root / "a")[0] == meta(root / "a/b")[0] == 0o750
        assert meta(root / "c/f")[0] == 0o640


def test_each_output_is_a_record_of_its_own(world: World) -> None:
    op = FileOp(
        (
            FileAction(NO_INPUT, MkFile("/one", 0o644, b"1"), output=0),
            FileAction(NO_INPUT, MkFile("/two", 0o644, b"2"), output=1),
        )
    )
    assert file.run(world, op, (), {0: "first", 1: "second"}) == ["first", "second"]
    with world.trees.mounted("first") as one, world.trees.mounted("second") as two:
        assert listing(one) == {"one": "1"}
        assert listing(two) == {"two": "2"}


def test_the_base_stays_as_it_was(world: World) -> None:
    act = act_on(world)
    base = act(None, first(MkFile("/f", 0o644, b"old")))
    made = act(base, FileAction(0, MkFile("/f", 0o600, b"new"), output=0))
    with world.trees.mounted(base) as before, world.trees.mounted(made) as after:
        assert (before / "f").read_text() == "old"
        assert (after / "f").read_text() == "new"


def test_one_time_for_what_is_made(world: World) -> None:
    owner = ChownOpt(UserOpt(7), UserOpt(8))
    name = act_on(world)(
        None,
        FileAction(NO_INPUT, MkDir("/d/e", 0o755, make_parents=True, owner=owner, timestamp=STAMP)),
        FileAction(1, MkFile("/f", 0o644, b"", owner, STAMP)),
        FileAction(2, Symlink("f", "/l", owner, STAMP)),
        FileAction(3, MkDir("/g", 0o700, owner=owner, timestamp=STAMP), output=0),
    )
    with world.trees.mounted(name) as root:
        assert {meta(root / path)[1:] for path in ("d", "f", "l", "g")} == {(7, 8, STAMP // 10**9)}
        assert meta(root / "d/e")[1:] == (7, 8, STAMP // 10**9)


def test_the_umask_of_this_process_does_not_count(overlay: World) -> None:
    before = os.umask(0o077)
    try:
        name = act_on(overlay)(
            None,
            FileAction(NO_INPUT, MkDir("/d/e", 0o777, make_parents=True)),
            FileAction(1, MkDir("/m", 0o777)),
            FileAction(2, MkFile("/f", 0o666, b""), output=0),
        )
    finally:
        os.umask(before)
    with overlay.trees.mounted(name) as root:
        assert [oct(meta(root / path)[0]) for path in ("d", "d/e", "m", "f")] == ["0o777", "0o777", "0o777", "0o666"]


def test_mkdir_of_what_is_there_changes_nothing(overlay: World) -> None:
    act = act_on(overlay)
    base = act(None, first(MkDir("/d", 0o700)))
    made = act(base, FileAction(0, MkDir("/d", 0o755)), FileAction(1, MkDir("/d", 0o755, make_parents=True), output=0))
    with overlay.trees.mounted(made) as root:
        assert meta(root / "d")[0] == 0o700


@pytest.mark.parametrize(
    ("rm", "left"),
    [
        (Rm("/d"), ["f", "l"]),
        (Rm("/l"), ["d/", "d/a", "d/b", "f"]),
        (Rm("/d/*", allow_wildcard=True), ["d/", "f", "l"]),
        (Rm("/nope", allow_not_found=True), ["d/", "d/a", "d/b", "f", "l"]),
        (Rm("/l/a"), ["d/", "d/b", "f", "l"]),
        (Rm("../../f"), ["d/", "d/a", "d/b", "l"]),
    ],
)
def test_rm(overlay: World, tmp_path: Path, rm: Rm, left: list[str]) -> None:
    act = act_on(overlay)
    lend(overlay, tmp_path / "c", {"d/a": "", "d/b": "", "f": "", "l": "->d"})
    base = act(None, copy("/", "/"), others=["context"])
    made = act(base, FileAction(0, rm, output=0))
    with overlay.trees.mounted(made) as root:
        assert sorted(listing(root)) == left


# --- copies


def test_copies_from_a_lent_directory_without_its_owners(world: World, tmp_path: Path) -> None:
    lend(world, tmp_path / "c", {"d/f": "f", "g": "g", "drop": ""}, hidden=("drop",))
    os.chown(tmp_path / "c/d/f", 5, 6)
    made = act_on(world)(None, copy("/", "/x/"), others=["context"])
    with world.trees.mounted(made) as root:
        assert listing(root) == {"x/": "", "x/d/": "", "x/d/f": "f", "x/g": "g"}
        assert meta(root / "x/d/f")[1:3] == (0, 0)


def test_copies_from_a_record_with_its_owners(world: World) -> None:
    act = act_on(world)
    stage = act(None, first(MkFile("/f", 0o640, b"f", ChownOpt(UserOpt(5), UserOpt(6)))))
    made = act(None, copy("/f", "/d/"), others=[stage])
    with world.trees.mounted(made) as root:
        assert meta(root / "d/f")[:3] == (0o640, 5, 6)


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (ChownOpt(UserOpt(77)), (77, 77)),
        (ChownOpt(UserOpt(77), UserOpt(88)), (77, 88)),
        (ChownOpt(None, UserOpt(88)), (0, 88)),
        (ChownOpt(UserOpt(None, "ann", 0)), (1001, 1002)),
        (ChownOpt(UserOpt(None, "ann", 0), UserOpt(None, "staff", 0)), (1001, 50)),
        (ChownOpt(), (0, 0)),
        (ChownOpt(UserOpt(None, "bob", 0), UserOpt(None, "nobody", 0)), (0, 0)),
        (ChownOpt(UserOpt(5), UserOpt(None, "nobody", 0)), (5, 5)),
    ],
)
def test_owners_by_number_and_by_the_names_of_the_base(
    overlay: World, tmp_path: Path, owner: ChownOpt, expected: tuple[int, int]
) -> None:
    act = act_on(overlay)
    base = act(
        None,
        FileAction(NO_INPUT, MkDir("/etc", 0o755)),
        FileAction(1, MkFile("/etc/passwd", 0o644, b"root:x:0:0::/root:\nann:x:1001:1002::/home/ann:\n")),
        FileAction(2, MkFile("/etc/group", 0o644, b"staff:x:50:\n"), output=0),
    )
    lend(overlay, tmp_path / "c", {"f": ""})
    made = act(base, copy("/f", "/n/f", owner=owner), others=["context"])
    with overlay.trees.mounted(made) as root:
        assert meta(root / "n")[1:3] == meta(root / "n/f")[1:3] == expected


def test_modes_in_octal_and_in_words(overlay: World, tmp_path: Path) -> None:
    act = act_on(overlay)
    lend(overlay, tmp_path / "c", {"f": ""})
    octal = act(None, copy("/f", "/n/f", mode=0o4600), others=["context"])
    words = act(None, copy("/f", "/n/f", mode=0, mode_str="u+x,go="), others=["context"])
    with overlay.trees.mounted(octal) as root:
        assert [meta(root / path)[0] for path in ("n", "n/f")] == [0o4600, 0o4600]
    with overlay.trees.mounted(words) as root:
        assert [meta(root / path)[0] for path in ("n", "n/f")] == [0o755, 0o700]


def test_a_wildcard_without_a_match_leaves_everything_as_it_was(overlay: World, tmp_path: Path) -> None:
    lend(overlay, tmp_path / "c", {"f": ""})
    made = act_on(overlay)(None, copy("/nope*", "/x/"), others=["context"])
    with overlay.trees.mounted(made) as root:
        assert listing(root) == {}


def test_links_are_only_followed_when_the_op_says_so(overlay: World, tmp_path: Path) -> None:
    lend(overlay, tmp_path / "c", {"f": "f", "l": "->f"})
    act = act_on(overlay)
    kept = act(None, copy("/l", "/x", follow_symlink=False), others=["context"])
    followed = act(None, copy("/l", "/x"), others=["context"])
    with overlay.trees.mounted(kept) as one, overlay.trees.mounted(followed) as two:
        assert listing(one) == {"x": "->f"}
        assert listing(two) == {"x": "f"}


# --- what is refused


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (copy("/nope", "/x"), "nope: not in the"),
        (copy("/hidden", "/x"), "hidden: not"),
        (copy("/n*", "/x", allow_empty_wildcard=False), "n*: nothing matches"),
        (copy("/f", "/no/x", create_dest_path=False), "/no: no such directory in the image"),
        (FileAction(0, Rm("/nope"), output=0), "/nope: no such file in the image"),
        (FileAction(0, Rm("/"), output=0), "the root directory cannot be removed"),
        (FileAction(0, MkDir("/a/b", 0o755), output=0), "/a/b: No such file or directory"),
        (FileAction(0, MkFile("/d", 0o644, b""), output=0), "/d: Is a directory"),
        (FileAction(0, Symlink("x", "/d"), output=0), "File exists"),
    ],
)
def test_what_is_refused(overlay: World, tmp_path: Path, action: FileAction, message: str) -> None:
    lend(overlay, tmp_path / "c", {"f": "", "hidden": ""}, hidden=("hidden",))
    act = act_on(overlay)
    base = act(None, first(MkDir("/d", 0o755)))
    with pytest.raises(KnarrError) as caught:
        act(base, action, others=["context"])
    assert message in str(caught.value)
    assert str(overlay.settings.root) not in str(caught.value)


def test_a_failure_leaves_no_snapshot_and_no_mount(overlay: World, tmp_path: Path) -> None:
    lend(overlay, tmp_path / "c", {"f": ""})
    before = sorted(os.listdir(overlay.settings.root / "run"))
    with pytest.raises(ContentError):
        act_on(overlay)(None, copy("/nope", "/x"), others=["context"])
    mounts = Path("/proc/self/mounts").read_text()
    assert str(overlay.settings.root) not in mounts
    assert sorted(os.listdir(overlay.settings.root / "run")) == sorted({*before, "mnt"})
    assert os.listdir(overlay.settings.root / "run/mnt") == []


def test_a_name_without_a_base_to_look_in_is_told_with_a_way_out(overlay: World, tmp_path: Path) -> None:
    lend(overlay, tmp_path / "c", {"f": ""})
    with pytest.raises(KnarrError, match="--chown=ann: there is no passwd") as caught:
        act_on(overlay)(None, copy("/f", "/x", owner=ChownOpt(UserOpt(None, "ann"))), others=["context"])
    assert caught.value.hint is not None
    assert "--chown=1000:1000" in caught.value.hint


def test_an_action_read_twice_is_a_defect(overlay: World) -> None:
    op = FileOp(
        (
            FileAction(NO_INPUT, MkDir("/d", 0o755)),
            FileAction(0, MkDir("/e", 0o755), output=0),
            FileAction(0, MkDir("/f", 0o755), output=1),
        )
    )
    with pytest.raises(Bug, match="read by two others"):
        file.run(overlay, op, (), {0: "a", 1: "b"})


def test_an_output_that_nobody_reads_is_dropped(world: World) -> None:
    op = FileOp(
        (
            FileAction(NO_INPUT, MkFile("/one", 0o644, b"1"), output=0),
            FileAction(NO_INPUT, MkFile("/two", 0o644, b"2"), output=1),
        )
    )
    assert file.run(world, op, (), {1: "second"}) == ["second"]
    with world.trees.mounted("second") as two:
        assert listing(two) == {"two": "2"}


def test_a_copy_from_nothing_copies_nothing(world: World) -> None:
    op = FileOp((FileAction(NO_INPUT, Copy("/", "/", dir_copy_contents=True), NO_INPUT, output=0),))
    assert file.run(world, op, (), {0: "empty"}) == ["empty"]
    with world.trees.mounted("empty") as tree:
        assert listing(tree) == {}


def test_times_of_untouched_directories_stay(overlay: World, tmp_path: Path) -> None:
    lend(overlay, tmp_path / "c", {"f": "", "d/g": ""})
    act = act_on(overlay)
    base = act(None, copy("/", "/"), others=["context"])
    made = act(base, copy("/f", "/d/f"), others=["context"])
    with overlay.trees.mounted(made) as root:
        assert meta(root / "d")[3] >= int(time.time()) - 60
        assert meta(root / "f")[3] == meta(root / "d/f")[3] == 1577836800
