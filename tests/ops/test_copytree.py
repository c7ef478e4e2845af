"""COPY's semantics on two directories (build.md §1.2 and §4, measured on BuildKit)."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knarr.errors import Cancelled, ContentError, KnarrError
from knarr.ops.copyfile import copy_file
from knarr.ops.copytree import (
    Copier,
    CopyOptions,
    Tree,
    copy_all,
    expand,
    has_wildcard,
    make_parents,
    remove,
)
from knarr.patterns import Matcher

from .conftest import EPOCH, listing, meta, plant

pytestmark = pytest.mark.root  # owners

FILES = {"f": "f\n", "d/a": "a\n", "d/sub/b": "b\n", "lnk": "->f", "dlnk": "->d", "dangling": "->nowhere"}
CONTENTS = CopyOptions(contents=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return plant(tmp_path / "source", FILES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def run(
    source: Path, root: Path, names: str | list[str], target: str, options: CopyOptions = CONTENTS, **tree: Any
) -> None:
    wanted = [names] if isinstance(names, str) else names
    copy_all(Tree(str(source), **tree), wanted, str(root), target, options, check=lambda: None)


# --- where things go


@pytest.mark.parametrize(
    ("names", "target", "made"),
    [
        ("/f", "/x", {"x": "f\n"}),
        ("/f", "/x/", {"x/": "", "x/f": "f\n"}),
        ("/f", "/", {"f": "f\n"}),
        ("/f", "/deep/er/x", {"deep/": "", "deep/er/": "", "deep/er/x": "f\n"}),
        ("/d", "/x", {"x/": "", "x/a": "a\n", "x/sub/": "", "x/sub/b": "b\n"}),
        ("/d", "/x/", {"x/": "", "x/a": "a\n", "x/sub/": "", "x/sub/b": "b\n"}),
        ("/d/sub", "/", {"b": "b\n"}),
        (["/f", "/d/sub"], "/x/", {"x/": "", "x/f": "f\n", "x/b": "b\n"}),
    ],
)
def test_where_things_go(source: Path, root: Path, names: str | list[str], target: str, made: dict[str, str]) -> None:
    run(source, root, names, target)
    assert listing(root) == made


def test_a_directory_goes_into_an_existing_one_unless_its_contents_are_meant(source: Path, root: Path) -> None:
    (root / "x").mkdir()
    run(source, root, "/d", "/x", CopyOptions())
    assert listing(root / "x") == {"d/": "", "d/a": "a\n", "d/sub/": "", "d/sub/b": "b\n"}


def test_a_directory_takes_a_new_name(source: Path, root: Path) -> None:
    run(source, root, "/d", "/x", CopyOptions())
    assert sorted(listing(root / "x")) == ["a", "sub/", "sub/b"]


def test_the_destination_is_resolved_inside_the_root(source: Path, root: Path) -> None:
    plant(root, {"real/": "", "in": "->/real", "out": "->../../../..", "new": "->/made/by/copy"})
    run(source, root, "/f", "/in/")
    run(source, root, "/f", "/out/top")
    run(source, root, "/f", "/new/x")
    assert listing(root)["real/f"] == listing(root)["top"] == listing(root)["made/by/copy/x"] == "f\n"
    assert sorted(os.listdir(root.parent)) == ["root", "source"]


def test_a_link_to_a_file_as_destination_is_written_through(source: Path, root: Path) -> None:
    plant(root, {"t": "old", "s": "->/t"})
    run(source, root, "/f", "/s")
    assert listing(root) == {"t": "f\n", "s": "->/t"}


def test_a_link_inside_the_destination_directory_is_replaced_and_not_followed(source: Path, root: Path) -> None:
    plant(root, {"x/a": "->/kept", "kept": "kept"})
    run(source, root, "/d", "/x")
    assert listing(root)["x/a"] == "a\n"
    assert listing(root)["kept"] == "kept"


# --- links, kinds


def test_a_link_named_as_source_is_followed_inside_the_source(source: Path, root: Path) -> None:
    os.symlink("/f", source / "absolute")
    run(source, root, ["/lnk", "/dlnk", "/absolute"], "/x/")
    assert listing(root / "x") == {"lnk": "f\n", "a": "a\n", "sub/": "", "sub/b": "b\n", "absolute": "f\n"}


def test_a_link_named_as_source_is_copied_when_not_to_be_followed(source: Path, root: Path) -> None:
    run(source, root, ["/lnk", "/dlnk", "/dangling"], "/x/", CopyOptions(contents=True, follow=False))
    assert listing(root / "x") == {"lnk": "->f", "dlnk": "->d", "dangling": "->nowhere"}


def test_links_inside_a_tree_are_kept(source: Path, root: Path) -> None:
    run(source, root, "/", "/x")
    assert listing(root / "x") == listing(source)
    assert meta(root / "x/lnk")[3] == EPOCH


def test_names_of_one_file_stay_one_file(source: Path, root: Path) -> None:
    os.link(source / "f", source / "d/again")
    run(source, root, ["/f", "/d"], "/x/")
    assert (root / "x/f").stat().st_ino == (root / "x/again").stat().st_ino
    assert (root / "x/f").stat().st_nlink == 2


def test_odd_kinds_are_made_anew(source: Path, root: Path) -> None:
    os.mkfifo(source / "d/fifo", 0o640)
    os.mknod(source / "d/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    run(source, root, "/d", "/x")
    assert stat.S_ISFIFO((root / "x/fifo").stat().st_mode)
    assert meta(root / "x/fifo")[0] == 0o640
    assert (root / "x/null").stat().st_rdev == os.makedev(1, 3)


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 3 << 20])
def test_files_of_any_size(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "from").write_bytes(data)
    copy_file(str(tmp_path / "from"), str(tmp_path / "to"), size)
    assert (tmp_path / "to").read_bytes() == data


# --- owners, modes, times, attributes


def test_owner_mode_and_time_come_along_from_a_stage(source: Path, root: Path) -> None:
    os.chown(source / "f", 7, 8)
    os.chmod(source / "f", 0o4711)
    os.utime(source / "f", ns=(EPOCH * 10**9, EPOCH * 10**9 + 5))
    run(source, root, "/f", "/x")
    assert meta(root / "x") == (0o4711, 7, 8, EPOCH)
    assert (root / "x").stat().st_mtime_ns == EPOCH * 10**9 + 5


def test_a_context_has_no_owners(source: Path, root: Path) -> None:
    os.chown(source / "f", 7, 8)
    os.chmod(source / "f", 0o4711)
    run(source, root, "/f", "/x", zero_owner=True)
    assert meta(root / "x") == (0o4711, 0, 0, EPOCH)


def test_attributes_come_along_from_a_stage_but_not_from_a_context(source: Path, root: Path) -> None:
    os.setxattr(source / "f", "user.a", b"1")
    os.setxattr(source / "f", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    run(source, root, "/f", "/stage")
    run(source, root, "/f", "/context", zero_owner=True)
    assert sorted(os.listxattr(root / "stage")) == ["security.capability", "user.a"]
    assert os.listxattr(root / "context") == []


def test_chown_is_for_all_that_is_made(source: Path, root: Path) -> None:
    (root / "old").mkdir()
    run(source, root, "/", "/old/new/x", CopyOptions(contents=True, owner=(77, 88)))
    assert meta(root / "old")[1:3] == (0, 0)
    paths = ("old/new", "old/new/x", "old/new/x/f", "old/new/x/d/sub/b", "old/new/x/lnk")
    assert {meta(root / path)[1:3] for path in paths} == {(77, 88)}


def test_chown_keeps_setuid_and_capabilities(source: Path, root: Path) -> None:
    os.chmod(source / "f", 0o6755)
    os.setxattr(source / "f", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    run(source, root, "/f", "/x", CopyOptions(owner=(77, 88)))
    assert meta(root / "x")[0] == 0o6755
    assert "security.capability" in os.listxattr(root / "x")


def test_chmod_is_for_made_parents_too_but_not_for_links(source: Path, root: Path) -> None:
    (root / "old").mkdir()
    run(source, root, "/", "/old/new/x", CopyOptions(contents=True, mode=0o640))
    assert {meta(root / p)[0] for p in ("old/new", "old/new/x", "old/new/x/d", "old/new/x/f")} == {0o640}
    assert meta(root / "old")[0] == 0o755
    assert meta(root / "old/new/x/lnk")[0] == 0o777


def test_a_symbolic_chmod_is_not_for_made_parents(source: Path, root: Path) -> None:
    run(source, root, "/", "/new/x", CopyOptions(contents=True, mode_text="go="))
    modes = {path: oct(meta(root / path)[0]) for path in ("new", "new/x", "new/x/d", "new/x/f")}
    assert modes == {"new": "0o755", "new/x": "0o755", "new/x/d": "0o700", "new/x/f": "0o600"}


def test_one_time_for_all(source: Path, root: Path) -> None:
    stamp = 1_600_000_000 * 10**9
    run(source, root, "/", "/new/x", CopyOptions(contents=True, time_ns=stamp))
    paths = ("new", "new/x", "new/x/d", "new/x/d/sub/b", "new/x/dangling")
    assert {os.lstat(root / path).st_mtime_ns for path in paths} == {stamp}


def test_the_time_of_a_made_destination_is_that_of_the_source(source: Path, root: Path) -> None:
    os.chmod(source / "d", 0o711)
    run(source, root, "/d", "/x")
    assert meta(root / "x") == (0o755, 0, 0, EPOCH)  # made as a parent is: its mode is not the source's


def test_an_existing_destination_keeps_its_mode_and_owner(source: Path, root: Path) -> None:
    (root / "x/sub").mkdir(parents=True)
    os.chmod(root / "x", 0o1777)
    os.chown(root / "x", 5, 6)
    os.chmod(root / "x/sub", 0o700)
    run(source, root, "/d", "/x")
    assert meta(root / "x") == (0o1777, 5, 6, EPOCH)
    assert meta(root / "x/sub")[0] == 0o755  # what is inside is overlaid


def test_the_root_of_a_context_lends_no_mode_and_no_time(source: Path, root: Path) -> None:
    os.chmod(source, 0o700)
    os.utime(source, (EPOCH, EPOCH))
    before = int(time.time())
    run(source, root, "/", "/x", zero_owner=True)
    assert meta(root / "x")[0] == 0o755
    assert meta(root / "x")[3] >= before
    assert meta(root / "x/d")[3] == EPOCH


# --- what cannot be


@pytest.mark.parametrize(
    ("names", "target", "message"),
    [
        ("/nope", "/x", "nope: not in the image"),
        ("/f/x", "/x", "f/x: not in the image"),
        ("/dangling", "/x", "dangling: a symlink to nowhere, which is not in the image"),
        ("/f", "/file/x", "cannot copy to /file: it is not a directory in the image"),
        ("/f", "/file/", "cannot copy to /file: it is not a directory in the image"),
        ("/d", "/file", "cannot copy a directory to /file, which is a file in the image"),
        ("/f", "/x/", "cannot replace the directory /x/f with a file"),
        ("/d", "/y", "cannot copy to non-directory: /y/sub"),
    ],
)
def test_what_cannot_be(source: Path, root: Path, names: str, target: str, message: str) -> None:
    plant(root, {"file": "", "x/f/": "", "y/sub": "a file"})
    with pytest.raises(ContentError) as caught:
        run(source, root, names, target)
    assert str(caught.value) == message


def test_another_kind_is_replaced_when_asked(source: Path, root: Path) -> None:
    plant(root, {"x/f/inner": "", "x/d": "a file", "x/lnk/": "", "x/dlnk": "->/elsewhere", "elsewhere/keep": ""})
    run(source, root, "/", "/x", CopyOptions(contents=True, replace=True))
    assert listing(root / "x") == listing(source)
    assert listing(root / "elsewhere") == {"keep": ""}


def test_a_failing_system_call_names_the_path_in_the_image(source: Path, root: Path) -> None:
    with pytest.raises(KnarrError) as caught:
        run(source, root, "/f", "/" + "n" * 300)
    assert str(caught.value) == f"copy f: /{'n' * 300}: File name too long"


def test_cancellation_is_asked_for_on_the_way(source: Path, root: Path) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        copy_all(Tree(str(source)), ["/"], str(root), "/x", CONTENTS, check=check)


# --- includes, excludes, hidden


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"exclude": ("*.md",)}, ["a.go", "b/", "b/c.go", "b/d.md", "e/"]),
        ({"exclude": ("**/*.md",)}, ["a.go", "b/", "b/c.go", "e/"]),
        ({"exclude": ("b",)}, ["a.go", "e/", "r.md"]),
        ({"exclude": ("b", "!b/c.go")}, ["a.go", "b/", "b/c.go", "e/", "r.md"]),
        ({"exclude": ("**", "!b/d.md")}, ["b/", "b/d.md"]),
        ({"include": ("**/*.go",)}, ["a.go", "b/", "b/c.go"]),
        ({"include": ("b",)}, ["b/", "b/c.go", "b/d.md"]),
        ({"include": ("e", "x")}, ["e/"]),
        ({"include": ("**/*.go",), "exclude": ("b",)}, ["a.go"]),
        ({"include": ("b", "r.md"), "exclude": ("**/*.md",)}, ["b/", "b/c.go"]),
    ],
)
def test_includes_and_excludes(tmp_path: Path, root: Path, options: dict[str, Any], kept: list[str]) -> None:
    source = plant(tmp_path / "s", {"a.go": "", "r.md": "", "b/c.go": "", "b/d.md": "", "e/": ""})
    run(source, root, "/", "/x", CopyOptions(contents=True, **options))
    assert sorted(listing(root / "x")) == kept


def test_patterns_are_relative_to_what_is_copied_and_hidden_ones_to_the_tree(tmp_path: Path, root: Path) -> None:
    source = plant(tmp_path / "s", {"d/a": "", "d/b": "", "d/d/a": "", "d/d/b": ""})
    hidden = Matcher(("d/a",))
    run(source, root, "/d", "/x", CopyOptions(contents=True, exclude=("d/b",)), hidden=hidden)
    assert sorted(listing(root / "x")) == ["b", "d/", "d/a"]


def test_a_hidden_directory_with_something_shown_keeps_its_mode(tmp_path: Path, root: Path) -> None:
    source = plant(tmp_path / "s", {"d/keep/a": "", "d/drop/b": ""})
    os.chmod(source / "d", 0o711)
    run(source, root, "/", "/x", CONTENTS, hidden=Matcher(("d", "!d/keep")))
    assert sorted(listing(root / "x")) == ["d/", "d/keep/", "d/keep/a"]
    assert meta(root / "x/d") == (0o711, 0, 0, EPOCH)


def test_a_directory_of_which_nothing_is_shown_is_not_made(tmp_path: Path, root: Path) -> None:
    source = plant(tmp_path / "s", {"d/a.log": "", "d/e/b.log": "", "f": ""})
    run(source, root, "/", "/x", CopyOptions(contents=True, include=("**/*.txt", "f")))
    assert sorted(listing(root / "x")) == ["f"]


def test_an_existing_directory_stays_when_nothing_goes_into_it(tmp_path: Path, root: Path) -> None:
    source = plant(tmp_path / "s", {"d/a.log": ""})
    plant(root, {"x/d/": ""})
    run(source, root, "/", "/x", CopyOptions(contents=True, include=("**/*.txt",)))
    assert listing(root / "x") == {"d/": ""}


# --- wildcards


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["/a.txt", "/b.txt"]),
        ("?.txt", ["/a.txt", "/b.txt"]),
        ("[ac].*", ["/a.txt"]),
        ("[^a].txt", ["/b.txt"]),
        ("d/*", ["/d/.x", "/d/e", "/d/f"]),
        ("*/e", ["/d/e"]),
        ("*/*/g", ["/d/e/g"]),
        ("nope*", []),
        ("nope/*", []),
        ("a.txt/*", []),
        ("l/*", ["/l/e", "/l/.x", "/l/f"]),
        ("a.txt", ["/a.txt"]),
        ("../d/./f", ["/d/f"]),
        ("[[]q]", ["/[q]"]),
    ],
)
def test_wildcards(tmp_path: Path, pattern: str, found: list[str]) -> None:
    files = {"a.txt": "", "b.txt": "", "d/e/g": "", "d/f": "", "d/.x": "", "l": "->d", "[q]": ""}
    source = plant(tmp_path / "s", files)
    assert expand(Tree(str(source)), pattern, follow=True) in (found, sorted(found))


def test_wildcards_do_not_see_what_is_hidden(tmp_path: Path) -> None:
    source = plant(tmp_path / "s", {"a": "", "b": "", "c/d": "", "e/f": ""})
    tree = Tree(str(source), Matcher(("a", "c", "!c/d", "e")))
    assert expand(tree, "*", follow=True) == ["/b", "/c"]


@pytest.mark.parametrize(("part", "has"), [("a", False), ("a*", True), ("\\*", False), ("[a", True), ("\\\\?", True)])
def test_what_is_a_wildcard(part: str, has: bool) -> None:
    assert has_wildcard(part) is has


# --- the pieces


def test_make_parents_tells_what_it_made_and_touches_nothing_else(root: Path) -> None:
    (root / "a").mkdir(mode=0o700)
    made = make_parents(str(root / "a/b/c"), 0o1750, (3, 4), EPOCH * 10**9)
    assert made == [str(root / "a/b"), str(root / "a/b/c")]
    assert meta(root / "a")[:3] == (0o700, 0, 0)
    assert meta(root / "a/b/c") == (0o1750, 3, 4, EPOCH)
    assert make_parents(str(root / "a/b/c"), 0o755, None, None) == []


def test_remove_takes_a_tree_or_a_link_but_not_its_target(root: Path) -> None:
    plant(root, {"d/e/f": "", "l": "->d", "g": ""})
    remove(str(root / "l"))
    assert sorted(listing(root)) == ["d/", "d/e/", "d/e/f", "g"]
    remove(str(root / "d"))
    remove(str(root / "g"))
    assert listing(root) == {}


# --- against cp(1)

NAMES = st.sampled_from(["a", "b", "ü", "x y"])
NODES = st.recursive(
    st.tuples(st.just("file"), st.text(max_size=5), st.integers(0, 0o7777)) | st.tuples(st.just("link"), NAMES),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def grow(path: Path, node: Any) -> None:
    if isinstance(node, dict):
        path.mkdir(exist_ok=True)
        for name, inner in node.items():
            grow(path / name, inner)
    elif node[0] == "link":
        os.symlink(node[1], path)
    else:
        path.write_text(node[1])
        os.chmod(path, node[2])
    os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


@pytest.mark.system
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(below=st.dictionaries(NAMES, NODES, max_size=3), above=st.dictionaries(NAMES, NODES, max_size=3))
def test_agrees_with_cp_where_cp_can(tmp_path_factory: pytest.TempPathFactory, below: Any, above: Any) -> None:
    """`cp -a` with `--remove-destination` lays one tree over another as COPY does, and refuses the same."""
    base = tmp_path_factory.mktemp("cp")
    grow(base / "source", above)
    for name in ("ours", "theirs"):
        grow(base / name, below)
    command = ["cp", "-a", "--remove-destination", "--no-target-directory"]
    theirs = subprocess.run([*command, str(base / "source"), str(base / "theirs")], capture_output=True)
    copier = Copier(str(base / "ours"), CONTENTS, check=lambda: None)
    if theirs.returncode:
        with pytest.raises(ContentError):
            copier.copy(Tree(str(base / "source")), "/", "/")
        return
    copier.copy(Tree(str(base / "source")), "/", "/")
    assert everything(base / "ours") == everything(base / "theirs")


def everything(root: Path) -> list[object]:
    return [(str(path.relative_to(root)), meta(path), path.is_symlink()) for path in sorted(root.rglob("*"))]


def test_a_directory_made_for_what_is_below_it_has_the_time_of_its_making(tmp_path: Path, root: Path) -> None:
    source = plant(tmp_path / "s", {"d/e/a.go": "", "d/e/b.md": "", "d/f.md": ""})
    os.chmod(source / "d", 0o711)
    run(source, root, "/", "/x", CopyOptions(contents=True, include=("**/*.go",), owner=(3, 4)))
    for path in ("d", "d/e"):
        assert os.lstat(root / "x" / path).st_mtime > time.time() - 60
    assert meta(root / "x/d")[:3] == (0o711, 3, 4)


def test_an_existing_directory_gets_the_mode_when_something_goes_into_it(tmp_path: Path, root: Path) -> None:
    source = plant(tmp_path / "s", {"d/a.go": "", "e/b.md": ""})
    os.chmod(source / "d", 0o711)
    os.chmod(source / "e", 0o711)
    plant(root, {"x/d/": "", "x/e/": ""})
    os.chown(root / "x/d", 7, 8)
    run(source, root, "/", "/x", CopyOptions(contents=True, include=("**/*.go",)))
    assert meta(root / "x/d")[:3] == (0o711, 7, 8)
    assert meta(root / "x/e")[0] == 0o755


def test_a_link_in_the_place_of_a_directory_is_never_followed_out_of_the_image(tmp_path: Path, root: Path) -> None:
    source = plant(tmp_path / "s", {"d/e/a.go": "", "g/b.md": ""})
    (tmp_path / "outside").mkdir()
    (root / "x").mkdir()
    for name in ("d", "g"):
        (root / "x" / name).symlink_to(tmp_path / "outside")
    with pytest.raises(ContentError, match="cannot copy to non-directory: /x/d"):
        run(source, root, "/", "/x", CopyOptions(contents=True, include=("**/*.go",)))
    assert os.listdir(tmp_path / "outside") == []
    run(source, root, "/", "/x", CopyOptions(contents=True, include=("**/*.txt",)))  # nothing goes there
