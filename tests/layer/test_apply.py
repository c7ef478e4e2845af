from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import Cancelled, ContentError, LayerInvalid
from knarr.layer import tar
from knarr.layer.apply import apply, unpack_archive
from knarr.layer.tar import Entry
from knarr.spec.digest import Digest

pytestmark = pytest.mark.root

MakeTar = Callable[..., io.BytesIO]


def folder(name: str, **fields: Any) -> Entry:
    return Entry(name, tar.DIRECTORY, fields.pop("mode", 0o755), **fields)


def symlink(name: str, to: str) -> Entry:
    return Entry(name, tar.SYMLINK, 0o777, linkname=to)


def hardlink(name: str, to: str) -> Entry:
    return Entry(name, tar.HARDLINK, linkname=to)


def test_diff_id_is_of_the_whole_stream(root: Path, make_tar: MakeTar) -> None:
    data = make_tar((Entry("f"), b"x")).getvalue() + bytes(9000)  # record padding of other tars
    assert apply(io.BytesIO(data), root) == Digest.of(data)


def test_owner_mode_time_and_attributes(root: Path, make_tar: MakeTar) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    apply(
        make_tar(
            folder("bin", mode=0o1777, uid=5, mtime_ns=7 * 10**9),
            (Entry("bin/ping", mode=0o4755, uid=1, gid=2, mtime_ns=1_500_000_001), b"elf"),
        ),
        root,
    )
    apply(make_tar((Entry("bin/cap", mode=0o755, xattrs={"security.capability": capability}), b"")), root)
    ping = os.stat(root / "bin/ping")
    assert stat.S_IMODE(ping.st_mode) == 0o4755
    assert (ping.st_uid, ping.st_gid, ping.st_mtime_ns) == (1, 2, 1_500_000_001)
    assert os.getxattr(root / "bin/cap", "security.capability") == capability
    assert stat.S_IMODE(os.stat(root / "bin").st_mode) == 0o1777
    assert os.stat(root / "bin").st_uid == 5


def test_directory_times_outlive_what_is_made_in_them(root: Path, make_tar: MakeTar) -> None:
    apply(make_tar(folder("a", mtime_ns=10**9), folder("a/b", mtime_ns=2 * 10**9), Entry("a/b/c"), Entry("a/d")), root)
    assert [os.stat(root / name).st_mtime_ns for name in ("a", "a/b")] == [10**9, 2 * 10**9]


def test_special_files(root: Path, make_tar: MakeTar) -> None:
    null = Entry("null", tar.CHARACTER, 0o666, devmajor=1, devminor=3)
    disk = Entry("disk", tar.BLOCK_DEVICE, 0o660, devmajor=8, devminor=1)
    apply(make_tar(null, disk, Entry("pipe", tar.FIFO, 0o622), symlink("link", "/nowhere")), root)
    assert os.stat(root / "null").st_rdev == os.makedev(1, 3)
    assert stat.filemode(os.stat(root / "null").st_mode) == "crw-rw-rw-"
    assert stat.filemode(os.stat(root / "disk").st_mode) == "brw-rw----"
    assert stat.filemode(os.stat(root / "pipe").st_mode) == "prw--w--w-"
    assert os.readlink(root / "link") == "/nowhere"


def test_hard_links_share_the_file(root: Path, make_tar: MakeTar) -> None:
    apply(
        make_tar((Entry("a", mode=0o600, uid=3), b"x"), hardlink("d/b", "a"), symlink("s", "a"), hardlink("t", "s")),
        root,
    )
    assert os.stat(root / "a").st_ino == os.stat(root / "d/b").st_ino
    assert os.stat(root / "d/b").st_uid == 3
    assert os.readlink(root / "t") == "a"  # the link itself, not the file behind it


def test_a_hard_link_may_lead_into_a_lower_layer(root: Path, make_tar: MakeTar) -> None:
    (root / "old").write_text("old")
    apply(make_tar(hardlink("new", "/old")), root)
    assert (root / "new").read_text() == "old"


def test_missing_parents_are_made_plain(root: Path, make_tar: MakeTar) -> None:
    before = os.umask(0o077)
    try:
        apply(make_tar(Entry("a/b/c", uid=9)), root)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(root / "a/b").st_mode) == 0o755
    assert os.stat(root / "a").st_uid == 0


@pytest.mark.parametrize("name", ["../f", "../../f", "a/./../../f", "..", "a/../.."])
def test_names_that_climb_above_the_root_are_refused(root: Path, make_tar: MakeTar, name: str) -> None:
    with pytest.raises(LayerInvalid, match="leads out of the root"):
        apply(make_tar((Entry(name), b"x")), root)
    with pytest.raises(LayerInvalid, match="leads out of the root"):
        apply(make_tar(hardlink("h", name)), root)
    assert os.listdir(root) == []


@pytest.mark.parametrize("name", ["./f", "/f", "a/../f", "./././f", "//f"])
def test_names_are_taken_inside_the_root(root: Path, make_tar: MakeTar, name: str) -> None:
    apply(make_tar((Entry(name), b"x")), root)
    assert (root / "f").read_text() == "x"
    assert sorted(os.listdir(root.parent)) == ["root"]


def test_an_entry_for_the_root_changes_nothing(root: Path, make_tar: MakeTar) -> None:
    os.chmod(root, 0o711)
    apply(make_tar(folder("./", mode=0o700), Entry("f")), root)
    assert stat.S_IMODE(os.stat(root).st_mode) == 0o711
    with pytest.raises(LayerInvalid, match="only a directory can stand for the root"):
        apply(make_tar(Entry(".")), root)


# What is there, what comes over it, and what must then be there.
REPLACED = {
    "file by file": (Entry("x"), (Entry("x"), b"new"), "-"),
    "file by directory": (Entry("x"), folder("x"), "d"),
    "file by symlink": (Entry("x"), symlink("x", "y"), "l"),
    "directory by file": (folder("x"), Entry("x"), "-"),
    "directory by symlink": (folder("x"), symlink("x", "y"), "l"),
    "symlink by file": (symlink("x", "y"), Entry("x"), "-"),
    "symlink by directory": (symlink("x", "y"), folder("x"), "d"),
    "symlink by symlink": (symlink("x", "y"), symlink("x", "z"), "l"),
    "file by fifo": (Entry("x"), Entry("x", tar.FIFO), "p"),
}


@pytest.mark.parametrize("case", REPLACED)
@pytest.mark.parametrize("layers", [1, 2])
def test_what_exists_is_replaced(root: Path, make_tar: MakeTar, case: str, layers: int) -> None:
    old, new, kind = REPLACED[case]
    inside = [Entry("x/inside")] if old.type == tar.DIRECTORY else []
    if layers == 2:
        apply(make_tar(Entry("y"), old, *inside), root)
        apply(make_tar(new), root)
    else:
        apply(make_tar(Entry("y"), old, *inside, new), root)
    assert stat.filemode(os.lstat(root / "x").st_mode)[0] == kind
    assert (root / "y").read_text() == ""  # what a symlink led to is untouched


def test_a_directory_over_a_directory_keeps_what_is_in_it(root: Path, make_tar: MakeTar) -> None:
    apply(make_tar(folder("d", mode=0o755), Entry("d/old")), root)
    apply(make_tar(folder("d", mode=0o700, uid=4), Entry("d/new")), root)
    assert sorted(os.listdir(root / "d")) == ["new", "old"]
    assert (stat.S_IMODE(os.stat(root / "d").st_mode), os.stat(root / "d").st_uid) == (0o700, 4)


def test_a_whiteout_removes_files_and_trees(root: Path, make_tar: MakeTar) -> None:
    apply(make_tar(Entry("f"), Entry("d/e/g"), symlink("s", "d"), Entry("kept")), root)
    apply(make_tar(Entry(".wh.f"), Entry(".wh.d"), Entry(".wh.s"), Entry(".wh.nothing"), Entry("no/.wh.such")), root)
    assert os.listdir(root) == ["kept"]


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_a_whiteout_spares_its_own_layer(root: Path, make_tar: MakeTar, whiteout_first: bool) -> None:
    apply(make_tar(Entry("d/old"), Entry("d/sub/old")), root)
    new = [folder("d"), Entry("d/new"), Entry("d/sub/new")]
    apply(make_tar(*([Entry(".wh.d"), *new] if whiteout_first else [*new, Entry(".wh.d")])), root)
    assert sorted(os.listdir(root / "d")) == ["new", "sub"]
    assert os.listdir(root / "d/sub") == ["new"]


@pytest.mark.parametrize("opaque_first", [True, False])
def test_an_opaque_whiteout_spares_its_own_layer(root: Path, make_tar: MakeTar, opaque_first: bool) -> None:
    apply(make_tar(Entry("d/old"), Entry("d/sub/old"), Entry("d/implicit/old"), Entry("d/gone/old")), root)
    new = [folder("d"), Entry("d/new"), folder("d/sub"), Entry("d/implicit/new")]
    opaque = Entry("d/.wh..wh..opq")
    apply(make_tar(*([opaque, *new] if opaque_first else [*new, opaque])), root)
    assert sorted(os.listdir(root / "d")) == ["implicit", "new", "sub"]
    assert os.listdir(root / "d/sub") == []
    assert os.listdir(root / "d/implicit") == ["new"]


def test_an_opaque_root_empties_it(root: Path, make_tar: MakeTar) -> None:
    apply(make_tar(Entry("a"), Entry("b/c")), root)
    apply(make_tar(Entry("new"), Entry(".wh..wh..opq")), root)
    assert os.listdir(root) == ["new"]


# Each stream tries to reach `outside`, beside the root. `@` stands for its absolute path.
HOSTILE: dict[str, list[Entry | tuple[Entry, bytes]]] = {
    "dots": [(Entry("../outside/f"), b"x"), (Entry("../../outside/f"), b"x")],
    "file through symlink": [symlink("l", "@"), (Entry("l/f"), b"x")],
    "file through relative symlink": [symlink("l", "../outside"), (Entry("l/f"), b"x")],
    "file through chain": [symlink("a", ".."), symlink("b", "a/outside"), (Entry("b/f"), b"x")],
    "file over symlink": [symlink("l", "@/kept"), (Entry("l"), b"x")],
    "directory over symlink": [symlink("l", "@"), folder("l", mode=0o777), (Entry("l/f"), b"x")],
    "symlink instead of directory": [folder("d"), Entry("d/x"), symlink("d", "@"), (Entry("d/f"), b"x")],
    "symlink above a directory": [folder("d/e"), symlink("d", "@"), (Entry("d/e/f"), b"x")],
    "time of a directory": [folder("d/sub", mtime_ns=0), symlink("d", "@")],
    "link to outside": [symlink("l", "@"), hardlink("h", "l/kept")],
    "link by dots": [hardlink("h", "../outside/kept")],
    "link made outside": [Entry("f"), symlink("l", "@"), hardlink("l/h", "f")],
    "device outside": [symlink("l", "@"), Entry("l/null", tar.CHARACTER, devmajor=1, devminor=3)],
    "whiteout through symlink": [symlink("l", "@"), Entry("l/.wh.kept")],
    "opaque through symlink": [symlink("l", "@"), Entry("l/.wh..wh..opq")],
    "whiteout by dots": [Entry("../outside/.wh.kept"), Entry("x/../../outside/.wh.kept")],
    "whiteout of dots": [Entry(".wh..."), Entry(".wh..")],
    "circle": [symlink("a", "b"), symlink("b", "a"), (Entry("a/f"), b"x")],
    "dangling": [symlink("l", "@/new/dir"), (Entry("l/f"), b"x")],
    "a file as directory": [Entry("f"), (Entry("f/g"), b"x")],
    "very long": [(Entry("x" * 300), b"x")],
    "very deep": [(Entry("d/" * 3000 + "f"), b"x")],
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("layers", [1, 2])
def test_nothing_outside_the_root_is_touched(root: Path, make_tar: MakeTar, case: str, layers: int) -> None:
    outside = root.parent / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "kept").write_text("kept")
    os.chmod(outside, 0o750)
    state = [os.stat(path) for path in (outside, outside / "sub", outside / "kept", root.parent)]
    steps = [
        member._replace(linkname=member.linkname.replace("@", str(outside))) if isinstance(member, Entry) else member
        for member in HOSTILE[case]
    ]
    try:
        if layers == 2:
            apply(make_tar(*steps[:-1]), root)
            apply(make_tar(steps[-1]), root)
        else:
            apply(make_tar(*steps), root)
    except LayerInvalid:
        pass
    finally:
        subprocess.run(["rm", "-rf", str(root / "d")], check=True)
    after = [os.stat(path) for path in (outside, outside / "sub", outside / "kept", root.parent)]
    assert [facts[:9] for facts in after] == [facts[:9] for facts in state]
    assert sorted(os.listdir(outside)) == ["kept", "sub"]
    assert (outside / "kept").read_text() == "kept"


def test_a_symlinked_directory_is_followed_inside(root: Path, make_tar: MakeTar) -> None:
    apply(make_tar(folder("usr/bin"), symlink("bin", "/usr/bin"), symlink("sbin", "bin")), root)
    apply(make_tar(Entry("sbin/tool"), hardlink("bin/again", "sbin/tool"), Entry("bin/.wh.nothing")), root)
    assert sorted(os.listdir(root / "usr/bin")) == ["again", "tool"]


def test_a_whiteout_through_a_symlink_spares_its_own_layer(root: Path, make_tar: MakeTar) -> None:
    apply(make_tar(folder("usr/bin"), symlink("bin", "usr/bin"), Entry("usr/bin/old")), root)
    apply(make_tar(Entry("bin/new"), Entry("usr/bin/.wh..wh..opq")), root)
    assert os.listdir(root / "usr/bin") == ["new"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([hardlink("h", "nothing")], "h: a hard link to 'nothing', which does not exist"),
        ([Entry("f"), Entry("f/g")], "/f: is not a directory"),
        ([Entry("x" * 300)], "File name too long"),
        ([Entry("d/.wh.")], "names nothing"),
        ([symlink("a", "b"), symlink("b", "a"), Entry("a/f")], "too many levels of symbolic links"),
    ],
)
def test_errors_name_the_entry(root: Path, make_tar: MakeTar, members: list[Entry], message: str) -> None:
    with pytest.raises(LayerInvalid, match=message):
        apply(make_tar(*members), root)


def test_attributes_that_speak_to_overlayfs_are_left_out(root: Path, make_tar: MakeTar) -> None:
    xattrs = {"trusted.overlay.opaque": b"y", "user.overlay.opaque": b"y", "user.kept": b"1"}
    apply(make_tar(folder("d", xattrs=xattrs)), root)
    assert os.listxattr(root / "d") == ["user.kept"]


def test_user_attributes_of_symlinks_are_left_out(root: Path, make_tar: MakeTar) -> None:
    apply(make_tar(symlink("l", "x")._replace(xattrs={"user.a": b"1"})), root)
    assert os.readlink(root / "l") == "x"


def test_a_cut_off_layer_is_an_error(root: Path, make_tar: MakeTar) -> None:
    data = make_tar((Entry("large"), bytes(3_000_000))).getvalue()
    with pytest.raises(LayerInvalid, match="cut off inside large"):
        apply(io.BytesIO(data[:2_000_000]), root)


def test_cancellation_ends_it(root: Path, make_tar: MakeTar) -> None:
    def check() -> None:
        if (root / "a").exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        apply(make_tar(Entry("a"), (Entry("b"), bytes(9_000_000)), Entry("c")), root, check=check)
    assert not (root / "c").exists()


def test_a_full_disk_is_one_clear_error(root: Path, make_tar: MakeTar) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(root)], check=True)
    try:
        with pytest.raises(ContentError, match="no space left") as caught:
            apply(make_tar((Entry("large"), bytes(3_000_000))), root)
        assert "knarr prune" in caught.value.hint
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_an_archive_is_not_a_layer(root: Path, make_tar: MakeTar) -> None:
    (root / "old").touch()
    unpack_archive(make_tar(Entry(".wh.old"), Entry("d/.wh..wh..opq", uid=3)), root, owner=(7, 8))
    assert sorted(os.listdir(root)) == [".wh.old", "d", "old"]
    assert (os.stat(root / ".wh.old").st_uid, os.stat(root / "d/.wh..wh..opq").st_gid) == (7, 8)


def test_an_archive_stays_inside_as_well(root: Path, make_tar: MakeTar) -> None:
    unpack_archive(make_tar(symlink("l", ".."), (Entry("l/g"), b"x")), root)
    with pytest.raises(LayerInvalid, match="leads out of the root"):
        unpack_archive(make_tar((Entry("l/../../f"), b"x")), root)
    assert sorted(os.listdir(root)) == ["g", "l"]
    assert os.listdir(root.parent) == ["root"]
