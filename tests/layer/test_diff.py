from __future__ import annotations

import io
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import LayerInvalid, Unsupported
from knarr.layer import tar
from knarr.layer.apply import apply
from knarr.layer.diff import Options, write_between, write_tree, write_upper
from knarr.layer.parents import remove_tree
from knarr.layer.tar import Entry

pytestmark = pytest.mark.root

Look = Callable[[Path], dict[str, tuple[object, ...]]]
Overlay = Callable[[list[Path], Path], AbstractContextManager[Path]]
ReadTar = Callable[[bytes], list[tuple[Entry, bytes]]]

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep


def upper_layer(upper: Path, *lowers: Path, options: Options | None = None) -> bytes:
    out = io.BytesIO()
    write_upper(upper, lowers, out, options=options)
    return out.getvalue()


def whole(root: Path) -> bytes:
    out = io.BytesIO()
    write_tree(root, out)
    return out.getvalue()


def between(lower: Path, upper: Path) -> bytes:
    out = io.BytesIO()
    write_between([lower], upper, out)
    return out.getvalue()


def grown(root: Path) -> Path:
    """A tree with one of everything, its times cut to the second as a layer's are."""
    for name in ("etc", "usr/lib/deep", "var/cache"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0")
    (root / "usr/lib/a.so").write_bytes(b"elf" * 1000)
    os.link(root / "usr/lib/a.so", root / "usr/lib/b.so")
    (root / "usr/lib/deep/link").symlink_to("../a.so")
    (root / "var/cache/old").write_text("old")
    os.mkfifo(root / "var/pipe")
    for folder, folders, files in os.walk(root, topdown=False):
        for name in folders + files:
            os.utime(os.path.join(folder, name), (1000, 1000), follow_symlinks=False)
    return root


def names(data: bytes, read_tar: ReadTar) -> list[str]:
    return [entry.name for entry, _ in read_tar(data)]


def test_a_tree_in_lexical_order(root: Path, read_tar: ReadTar) -> None:
    for name in ("b/x", "a.txt", "a/z", "ä", "a-b/c"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    # Name by name as filepath.Walk of Go: "a" and what is in it come before "a-b" and "a.txt".
    assert names(whole(root), read_tar) == ["a/", "a/z", "a-b/", "a-b/c", "a.txt", "b/", "b/x", "ä"]


def test_kinds_of_files(root: Path, read_tar: ReadTar) -> None:
    grown(root)
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    os.chmod(root / "etc/passwd", 0o4600)
    os.setxattr(root / "etc/passwd", "user.a", b"1")
    os.setxattr(root / "etc/passwd", "trusted.b", b"2")
    found = {entry.name: (entry, content) for entry, content in read_tar(whole(root))}
    passwd, content = found["etc/passwd"]
    assert (passwd.mode, passwd.xattrs, content) == (0o4600, {}, b"root:x:0:0")
    assert passwd.mtime_ns == 1000 * 10**9
    assert (found["usr/lib/b.so"][0].type, found["usr/lib/b.so"][0].linkname) == (tar.HARDLINK, "usr/lib/a.so")
    assert found["usr/lib/deep/link"][0].linkname == "../a.so"
    assert (found["null"][0].devmajor, found["null"][0].devminor) == (1, 3)
    assert found["var/pipe"][0].type == tar.FIFO
    assert all(not entry.uname and not entry.gname for entry, _ in found.values())


def test_sockets_are_left_out(root: Path, read_tar: ReadTar) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        assert names(whole(root), read_tar) == []


def test_the_same_tree_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    grown(root)
    shutil.copytree(root, tmp_path / "copy", symlinks=True, ignore=lambda *_: ["pipe", "b.so"])
    os.mkfifo(tmp_path / "copy/var/pipe")
    os.link(tmp_path / "copy/usr/lib/a.so", tmp_path / "copy/usr/lib/b.so")
    for name in ("var/pipe", "var", "usr/lib"):
        os.utime(tmp_path / "copy" / name, (1000, 1000))
    os.chmod(tmp_path / "copy/var/pipe", os.stat(root / "var/pipe").st_mode & 0o7777)
    assert whole(tmp_path / "copy") == whole(root)


def test_times_can_be_cut(root: Path, read_tar: ReadTar) -> None:
    (root / "new").touch()
    (root / "old").touch()
    os.utime(root / "old", (5, 5))
    data = upper_layer(root, options=Options(max_mtime_s=100))
    assert {entry.name: entry.mtime_ns // 10**9 for entry, _ in read_tar(data)} == {"new": 100, "old": 5}


def test_a_name_no_layer_can_hold(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/.wh.f").touch()
    with pytest.raises(LayerInvalid, match=r"/d/\.wh\.f: no layer can hold"):
        whole(root)


def test_large_and_deep_trees(root: Path, read_tar: ReadTar) -> None:
    (root / "large").write_bytes(bytes(3_000_001))
    for depth in range(1, 1201):
        os.mkdir(f"{root}/{'d/' * depth}")
    Path(f"{root}/{'d/' * 1200}f").touch()
    data = whole(root)
    assert len(read_tar(data)) == 1202
    os.mkdir(root.parent / "copy")
    apply(io.BytesIO(data), root.parent / "copy")
    assert whole(root.parent / "copy") == data
    remove_tree(str(root))  # deeper than pytest's own clean-up reaches
    remove_tree(str(root.parent / "copy"))


def test_only_what_changed_in_an_overlay(root: Path, tmp_path: Path, overlay: Overlay, read_tar: ReadTar) -> None:
    grown(root)
    with overlay([root], tmp_path / "upper") as merged:
        (merged / "etc/passwd").write_text("changed")
        (merged / "var/cache/old").unlink()
        (merged / "usr/lib/new").write_text("new")
    found = names(upper_layer(tmp_path / "upper", root), read_tar)
    assert found == ["etc/", "etc/passwd", "usr/", "usr/lib/", "usr/lib/new", "var/", "var/cache/", "var/cache/.wh.old"]


def test_a_whiteout_has_no_owner_mode_or_time(root: Path, tmp_path: Path, overlay: Overlay, read_tar: ReadTar) -> None:
    (root / "f").touch()
    with overlay([root], tmp_path / "upper") as merged:
        (merged / "f").unlink()
    assert read_tar(upper_layer(tmp_path / "upper", root)) == [(Entry(".wh.f", mode=0), b"")]


def test_what_was_copied_up_and_not_changed_is_left_out(
    root: Path, tmp_path: Path, overlay: Overlay, read_tar: ReadTar
) -> None:
    grown(root)
    with overlay([root], tmp_path / "upper") as merged:
        os.chown(merged / "etc/passwd", 0, 0)  # copies the file up
        os.chmod(merged / "usr/lib", os.stat(merged / "usr/lib").st_mode & 0o7777)
    assert (tmp_path / "upper/etc/passwd").exists()
    assert names(upper_layer(tmp_path / "upper", root), read_tar) == []


def test_changed_attributes_alone_are_a_change(root: Path, tmp_path: Path, overlay: Overlay, read_tar: ReadTar) -> None:
    grown(root)
    with overlay([root], tmp_path / "upper") as merged:
        os.setxattr(merged / "etc/passwd", "security.capability", CAPABILITY)
        os.setxattr(merged / "usr", "user.a", b"1")  # of no concern to a layer
        os.chmod(merged / "usr/lib", 0o700)
    assert names(upper_layer(tmp_path / "upper", root), read_tar) == ["etc/", "etc/passwd", "usr/", "usr/lib/"]


def test_equal_length_and_time_but_other_content(
    root: Path, tmp_path: Path, overlay: Overlay, read_tar: ReadTar
) -> None:
    grown(root)
    with overlay([root], tmp_path / "upper") as merged:
        (merged / "etc/passwd").write_text("ROOT:x:0:0")
        os.utime(merged / "etc/passwd", (1000, 1000))
    assert "etc/passwd" in names(upper_layer(tmp_path / "upper", root), read_tar)


def test_an_unchanged_link_of_a_changed_file_stays_a_link(
    root: Path, tmp_path: Path, overlay: Overlay, read_tar: ReadTar
) -> None:
    grown(root)
    with overlay([root], tmp_path / "upper") as merged:
        os.link(merged / "etc/passwd", merged / "etc/shadow")
    links = {entry.name: entry.linkname for entry, _ in read_tar(upper_layer(tmp_path / "upper", root))}
    assert links == {"etc/": "", "etc/shadow": "", "etc/passwd": "etc/shadow"}


def test_an_opaque_directory_becomes_whiteouts(
    root: Path, tmp_path: Path, overlay: Overlay, read_tar: ReadTar, look: Look
) -> None:
    grown(root)
    (root / "usr/lib/deep/sub").mkdir()
    with overlay([root], tmp_path / "upper") as merged:
        shutil.rmtree(merged / "usr/lib")
        (merged / "usr/lib/deep").mkdir(parents=True)
        (merged / "usr/lib/deep/new").touch()
        wanted = look(merged)
    data = upper_layer(tmp_path / "upper", root)
    found = names(data, read_tar)
    assert "usr/lib/.wh.a.so" in found
    assert "usr/lib/deep/.wh.link" in found
    assert "usr/lib/deep/.wh.sub" in found
    apply(io.BytesIO(data), root)
    assert look(root) == wanted


def test_lower_whiteouts_and_opaque_directories_count(
    root: Path, tmp_path: Path, overlay: Overlay, read_tar: ReadTar, look: Look
) -> None:
    grown(root)
    middle = tmp_path / "middle"
    with overlay([root], middle) as merged:
        (merged / "var/cache/old").unlink()
        shutil.rmtree(merged / "usr")
        (merged / "usr").mkdir()
        (merged / "usr/mine").touch()
    shutil.rmtree(tmp_path / "work")
    with overlay([middle, root], tmp_path / "upper") as merged:
        shutil.rmtree(merged / "usr")
        (merged / "usr/lib").mkdir(parents=True)
    found = names(upper_layer(tmp_path / "upper", middle, root), read_tar)
    assert found == ["usr/", "usr/lib/", "usr/.wh.mine"]


def test_whiteouts_of_nothing_are_left_out(root: Path, read_tar: ReadTar) -> None:
    os.mknod(root / "gone", 0o020000, os.makedev(0, 0))
    assert names(upper_layer(root), read_tar) == []
    (root.parent / "lower").mkdir()
    assert names(upper_layer(root, root.parent / "lower"), read_tar) == []


def test_redirected_directories_are_refused(root: Path) -> None:
    (root / "moved").mkdir()
    os.setxattr(root / "moved", "trusted.overlay.redirect", b"/from")
    with pytest.raises(Unsupported, match="/moved: the directory was renamed"):
        upper_layer(root)


def test_two_whole_trees(root: Path, tmp_path: Path, read_tar: ReadTar, look: Look) -> None:
    grown(root)
    data = whole(root)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        apply(io.BytesIO(data), tmp_path / name)
    b = tmp_path / "b"
    assert names(between(tmp_path / "a", b), read_tar) == []
    (b / "etc/passwd").unlink()
    (b / "etc/passwd").mkdir()
    shutil.rmtree(b / "usr/lib/deep")
    (b / "var/new").touch()
    change = between(tmp_path / "a", b)
    assert names(change, read_tar) == [
        *("etc/", "etc/passwd/", "usr/", "usr/lib/", "usr/lib/.wh.deep", "var/", "var/new"),
    ]
    apply(io.BytesIO(change), tmp_path / "a")
    assert look(tmp_path / "a") == look(b)


# A random tree: names from a small set, so that two trees share some; a node is content, a link or a folder.
leaf = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=5), st.sampled_from([0o644, 0o4755])),
    st.tuples(st.just("link"), st.sampled_from(["a", "../b", "/c"]), st.just(0)),
)
tree = st.recursive(
    leaf,
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c", "ä", "long" * 30]), inner, max_size=4),
    max_leaves=12,
)
folders = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), tree, max_size=4)


def plant(root: Path, node: object) -> None:
    root.mkdir()
    assert isinstance(node, dict)
    for name, inner in node.items():
        path = root / name
        if isinstance(inner, dict):
            plant(path, inner)
        elif inner[0] == "link":
            path.symlink_to(inner[1])
        else:
            path.write_bytes(inner[1])
            path.chmod(inner[2])
            os.chown(path, len(inner[1]), 0)
        os.utime(path, (len(name), len(name)), follow_symlinks=False)


@settings(deadline=None, max_examples=60)
@given(folders, folders)
def test_apply_undoes_diff(tmp_path_factory: pytest.TempPathFactory, look: Look, old: object, new: object) -> None:
    base = tmp_path_factory.mktemp("trees")
    plant(base / "old", old)
    plant(base / "new", new)
    (base / "made").mkdir()
    apply(io.BytesIO(whole(base / "old")), base / "made")
    assert look(base / "made") == look(base / "old")
    apply(io.BytesIO(between(base / "made", base / "new")), base / "made")
    assert look(base / "made") == look(base / "new")
    shutil.rmtree(base)
