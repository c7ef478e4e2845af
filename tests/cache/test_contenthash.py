"""The rows of BuildKit's cache-key rules that the content of files decides."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.cache.contenthash import TreeHasher
from knarr.cache.statcache import StatCache
from knarr.errors import Cancelled, ContentError, NotFound
from knarr.patterns import Matcher
from knarr.solver.keys import Selection

Plant = Callable[[Path, dict[str, str | None]], Path]
FILES: dict[str, str | None] = {
    "src/a.c": "int a;",
    "src/b.c": "int b;",
    "src/doc/x.md": "# x",
    "README": "read me",
    "link": "->src/a.c",
    "dir-link": "->src",
}


@pytest.fixture
def tree(tmp_path: Path, plant: Plant) -> Path:
    return plant(tmp_path / "tree", FILES)


def hashed(root: Path, path: str = "/", **selection: Any) -> str:
    return TreeHasher(root).checksum(path, **selection)


def after(tree: Path, change: Callable[[Path], object], path: str = "src", **selection: Any) -> bool:
    """Whether `change` changes the checksum."""
    before = hashed(tree, path, **selection)
    change(tree)
    return hashed(tree, path, **selection) != before


HITS: dict[str, Callable[[Path], object]] = {
    "time of a file": lambda tree: os.utime(tree / "src/a.c", (1, 1)),
    "time of a directory": lambda tree: os.utime(tree / "src", (1, 1)),
    "a file beside it": lambda tree: (tree / "new").write_text("new"),
    "the directory above it": lambda tree: tree.chmod(0o700),
    "the same bytes in a new file": lambda tree: (
        (tree / "src/a.c").unlink(),
        (tree / "src/a.c").write_text("int a;"),
        (tree / "src/a.c").chmod(0o644),
    ),
    "a hard link in place of an equal file": lambda tree: (
        (tree / "copy").write_text("int b;"),
        (tree / "copy").chmod(0o644),
        (tree / "src/b.c").unlink(),
        os.link(tree / "copy", tree / "src/b.c"),
    ),
}

MISSES: dict[str, Callable[[Path], object]] = {
    "bytes": lambda tree: (tree / "src/a.c").write_text("int A;"),
    "mode": lambda tree: (tree / "src/a.c").chmod(0o664),
    "mode of a directory": lambda tree: (tree / "src/doc").chmod(0o700),
    "mode of the directory itself": lambda tree: (tree / "src").chmod(0o700),
    "setuid": lambda tree: (tree / "src/a.c").chmod(0o4644),
    "name": lambda tree: (tree / "src/a.c").rename(tree / "src/c.c"),
    "a new file": lambda tree: (tree / "src/c.c").write_text(""),
    "an empty directory": lambda tree: (tree / "src/empty").mkdir(),
    "a file gone": lambda tree: (tree / "src/a.c").unlink(),
    "a file instead of a directory": lambda tree: (
        (tree / "src/doc/x.md").unlink(),
        (tree / "src/doc").rmdir(),
        (tree / "src/doc").write_text(""),
    ),
    "a link instead of a file": lambda tree: ((tree / "src/b.c").unlink(), (tree / "src/b.c").symlink_to("a.c")),
    "an attribute": lambda tree: os.setxattr(tree / "src/a.c", "user.knarr", b"x"),
    "an attribute of a directory": lambda tree: os.setxattr(tree / "src", "user.knarr", b"x"),
    "names swapped": lambda tree: (
        (tree / "src/a.c").rename(tree / "t"),
        (tree / "src/b.c").rename(tree / "src/a.c"),
        (tree / "t").rename(tree / "src/b.c"),
    ),
    "a file moved into a directory": lambda tree: (tree / "src/a.c").rename(tree / "src/doc/a.c"),
    "a pipe": lambda tree: os.mkfifo(tree / "src/pipe"),
}


@pytest.mark.parametrize("name", HITS)
def test_what_does_not_count(tree: Path, name: str) -> None:
    assert not after(tree, HITS[name])


@pytest.mark.parametrize("name", MISSES)
def test_what_counts(tree: Path, name: str) -> None:
    assert after(tree, MISSES[name])


@pytest.mark.parametrize("name", sorted(MISSES.keys() - {"mode of the directory itself"}))
def test_what_counts_in_a_whole_tree(tree: Path, name: str) -> None:
    assert after(tree, MISSES[name], "/")


def test_the_mode_of_the_root_does_not_count(tree: Path) -> None:
    assert not after(tree, lambda root: root.chmod(0o700), "/")


def test_equal_trees_elsewhere_have_equal_checksums(tree: Path, tmp_path: Path, plant: Plant) -> None:
    assert hashed(plant(tmp_path / "elsewhere", FILES)) == hashed(tree)


@pytest.mark.root
def test_owners_count_except_in_a_context(tree: Path) -> None:
    before = {zero: TreeHasher(tree, zero_owner=zero).checksum("src") for zero in (True, False)}
    os.chown(tree / "src/a.c", 5, 6)
    assert TreeHasher(tree, zero_owner=True).checksum("src") == before[True]
    assert TreeHasher(tree).checksum("src") != before[False]


@pytest.mark.root
def test_capabilities_count_and_other_security_attributes_do_not(tree: Path) -> None:
    # struct vfs_cap_data, revision 2, effective, with CAP_NET_BIND_SERVICE
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    assert after(tree, lambda root: os.setxattr(root / "src/a.c", "security.capability", capability))
    assert not after(tree, lambda root: os.setxattr(root / "src/a.c", "security.knarr", b"x"))


@pytest.mark.root
def test_device_numbers_count(tree: Path) -> None:
    os.mknod(tree / "src/null", 0o020666, os.makedev(1, 3))
    assert after(
        tree, lambda root: ((root / "src/null").unlink(), os.mknod(root / "src/null", 0o020666, os.makedev(1, 5)))
    )


def test_a_socket_is_hashed_and_not_opened(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("src/socket")
        assert hashed(tree) == hashed(tree)


# --- links


def test_a_link_is_followed_only_if_asked(tree: Path) -> None:
    assert hashed(tree, "link", follow=True) == hashed(tree, "src/a.c")
    assert hashed(tree, "link") != hashed(tree, "src/a.c")


def test_links_on_the_way_are_always_followed(tree: Path) -> None:
    assert hashed(tree, "dir-link/a.c") == hashed(tree, "src/a.c")


def test_a_link_inside_counts_by_its_target_text(tree: Path) -> None:
    (tree / "src/l").symlink_to("a.c")
    assert not after(tree, lambda root: (root / "src/a.c").touch())
    assert after(tree, lambda root: ((root / "src/l").unlink(), (root / "src/l").symlink_to("b.c")))


def test_links_lead_nowhere_outside_the_root(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tree / "out").symlink_to("../../secret")
    (tree / "abs").symlink_to(str(tmp_path / "secret"))
    for name in ("out", "abs", "../secret", "/../secret"):
        with pytest.raises(NotFound):
            hashed(tree, name, follow=True)


# --- selections


@pytest.mark.parametrize("path", ["src", "/src", "./src", "../src", "src/.", "x/../src", "src/"])
def test_spellings_of_a_path_are_one_path(tree: Path, path: str) -> None:
    assert hashed(tree, path) == hashed(tree, "src")


def test_a_wildcard_takes_what_matches(tree: Path) -> None:
    assert after(tree, MISSES["bytes"], "src/*.c", wildcard=True)
    assert not after(tree, lambda root: (root / "src/doc/x.md").write_text("other"), "src/*.c", wildcard=True)


def test_a_wildcard_matches_names_and_not_whole_paths(tree: Path) -> None:
    assert not after(tree, lambda root: (root / "src/doc/y.c").write_text("y"), "src/*.c", wildcard=True)
    assert after(tree, lambda root: (root / "src/doc/y.c").write_text("z"), "*/*/*.c", wildcard=True)


def test_a_matched_directory_counts_with_all_that_is_in_it(tree: Path) -> None:
    assert after(tree, lambda root: (root / "src/doc/x.md").write_text("other"), "s*", wildcard=True)


def test_a_wildcard_that_matches_nothing_has_a_checksum(tree: Path) -> None:
    assert hashed(tree, "nope*", wildcard=True) == hashed(tree, "nothing/nope*", wildcard=True)
    assert after(tree, lambda root: (root / "nope1").write_text(""), "nope*", wildcard=True)


def test_a_matched_link_is_followed_if_asked(tree: Path) -> None:
    assert after(tree, MISSES["bytes"], "lin*", wildcard=True, follow=True)
    assert not after(tree, lambda root: (root / "src/a.c").write_text("more"), "lin*", wildcard=True)


def test_renaming_a_match_counts(tree: Path) -> None:
    assert after(tree, MISSES["name"], "src/*.c", wildcard=True)


def test_excluded_files_do_not_count(tree: Path) -> None:
    def change(root: Path) -> None:
        (root / "src/doc/x.md").write_text("other")

    assert not after(tree, change, exclude=("doc",))
    assert not after(tree, lambda root: (root / "src/doc/x.md").write_text("third"), exclude=("**/*.md",))
    assert after(tree, lambda root: (root / "src/doc/x.md").write_text("fourth"), exclude=("doc", "!doc/x.md"))
    assert after(tree, MISSES["bytes"], exclude=("doc",))


def test_only_included_files_count(tree: Path) -> None:
    assert not after(tree, MISSES["bytes"], include=("**/*.md",))
    assert after(tree, lambda root: (root / "src/doc/x.md").write_text("other"), include=("**/*.md",))
    assert not after(tree, lambda root: (root / "src/empty").mkdir(), include=("**/*.md",))


def test_the_mode_of_a_directory_with_included_files_counts(tree: Path) -> None:
    assert after(tree, lambda root: (root / "src/doc").chmod(0o700), include=("**/*.md",))


def test_a_trailing_slash_leaves_out_the_directory_itself_when_there_are_patterns(tree: Path) -> None:
    assert not after(tree, lambda root: (root / "src").chmod(0o700), "src/", exclude=("doc",))
    assert after(tree, lambda root: (root / "src").chmod(0o711), "src", exclude=("doc",))


def test_required_paths_must_be_there(tree: Path) -> None:
    hashed(tree, "/", include=("src/*.c",), required=("src/a.c",))
    with pytest.raises(NotFound, match=r"src/x\.c"):
        hashed(tree, "/", include=("src/*.c",), required=("src/x.c",))


def test_a_listing_names_every_path_with_mode_owner_and_digest(tree: Path) -> None:
    listing = TreeHasher(tree, zero_owner=True).listing(Selection("src"))
    assert list(listing) == ["src", "src/a.c", "src/b.c", "src/doc", "src/doc/x.md"]
    assert listing["src/a.c"] == f"100644 0:0 {hashlib.sha256(b'int a;').hexdigest()}"


# --- what a tree hides


def ignoring(tree: Path, *patterns: str) -> TreeHasher:
    return TreeHasher(tree, hidden=Matcher(patterns), name="build context")


def test_hidden_files_are_not_there(tree: Path) -> None:
    before = ignoring(tree, "**/*.md").checksum("/")
    (tree / "src/doc/x.md").write_text("other")
    (tree / "new.md").write_text("new")
    assert ignoring(tree, "**/*.md").checksum("/") == before


def test_a_hidden_directory_is_there_if_something_in_it_is_shown(tree: Path) -> None:
    before = ignoring(tree, "src", "!src/doc/x.md").checksum("/")
    (tree / "src/a.c").write_text("other")
    assert ignoring(tree, "src", "!src/doc/x.md").checksum("/") == before
    (tree / "src/doc/x.md").write_text("other")
    assert ignoring(tree, "src", "!src/doc/x.md").checksum("/") != before


def test_a_hidden_directory_with_nothing_shown_is_not_there(tree: Path) -> None:
    before = ignoring(tree, "src", "!src/none").checksum("/")
    (tree / "src").rename(tree / "gone")
    assert ignoring(tree, "src", "gone", "!src/none").checksum("/") == before


def test_a_hidden_directory_is_not_entered(tree: Path) -> None:
    (tree / "modules").mkdir()
    for number in range(50):
        (tree / f"modules/{number}").mkdir()
    entered = []
    TreeHasher(tree, hidden=Matcher(["modules"]), check=lambda: entered.append(1)).checksum("/")
    assert len(entered) == 3  # the root, src and src/doc


def test_a_hidden_source_is_missing_and_says_why(tree: Path) -> None:
    (tree / "README.md").write_text("a name nearby is no help then")
    with pytest.raises(NotFound, match="README: not in the build context") as caught:
        ignoring(tree, "README").checksum("README")
    assert caught.value.hint == "the ignore pattern README leaves it out"


def test_a_link_to_a_hidden_file_leads_to_nothing(tree: Path) -> None:
    with pytest.raises(NotFound):
        ignoring(tree, "src").checksum("link", follow=True)


def test_matches_that_are_hidden_do_not_count(tree: Path) -> None:
    hasher = ignoring(tree, "src/a.c")
    before = hasher.checksum("src/*.c", wildcard=True)
    (tree / "src/a.c").write_text("other")
    assert ignoring(tree, "src/a.c").checksum("src/*.c", wildcard=True) == before


# --- failures


def test_a_missing_source_names_its_neighbours(tree: Path) -> None:
    with pytest.raises(NotFound, match=r"src/a\.cc: not in the build context") as caught:
        ignoring(tree).checksum("src/a.cc")
    assert "src/a.c" in caught.value.hint


def test_a_hidden_neighbour_is_not_named(tree: Path) -> None:
    with pytest.raises(NotFound) as caught:
        ignoring(tree, "README").checksum("READM")
    assert caught.value.hint == ""


def test_a_link_to_nothing_is_missing_if_it_is_followed(tree: Path) -> None:
    (tree / "broken").symlink_to("nowhere")
    hashed(tree, "broken")
    with pytest.raises(NotFound, match="broken"):
        hashed(tree, "broken", follow=True)


def test_a_path_through_a_file_is_missing(tree: Path) -> None:
    with pytest.raises(NotFound):
        hashed(tree, "README/x")


def test_a_directory_that_vanishes_is_told_by_its_path(tree: Path) -> None:
    def check() -> None:
        entered.append(1)
        if len(entered) == 2:
            (tree / "src/doc").rename(tree / "moved")

    entered: list[int] = []
    with pytest.raises(ContentError, match="src/doc: cannot be read from the build context: No such file"):
        TreeHasher(tree, check=check, name="build context").checksum("src")


def test_hashing_can_be_stopped(tree: Path) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        TreeHasher(tree, check=check).checksum("/")


# --- remembered


def test_remembered_checksums_are_those_that_are_computed(tree: Path, tmp_path: Path) -> None:
    first = StatCache(tmp_path / "cache", now_ns=time.time_ns() + 10**10)
    fresh = TreeHasher(tree, cache=first).checksum("/")
    first.save()
    assert TreeHasher(tree, cache=StatCache(tmp_path / "cache")).checksum("/") == fresh == hashed(tree)


def test_a_known_file_is_not_read_again(tree: Path, tmp_path: Path) -> None:
    cache = StatCache(tmp_path / "cache", now_ns=time.time_ns() + 10**10)
    wrong = b"w" * 32
    cache.remember(os.lstat(tree / "src/a.c"), wrong)
    assert TreeHasher(tree, cache=cache).checksum("/") != hashed(tree)


@pytest.mark.parametrize("name", sorted(MISSES))
def test_a_change_is_noticed_although_files_are_remembered(tree: Path, tmp_path: Path, name: str) -> None:
    cache = StatCache(tmp_path / "cache", now_ns=time.time_ns() + 10**10)
    before = TreeHasher(tree, cache=cache).checksum("src")
    cache.save()
    time.sleep(0.02)  # more than one tick of the file system's clock
    MISSES[name](tree)
    assert TreeHasher(tree, cache=StatCache(tmp_path / "cache")).checksum("src") != before


def test_directories_are_hashed_once(tree: Path) -> None:
    entered: list[int] = []
    hasher = TreeHasher(tree, check=lambda: entered.append(1))
    hasher.checksum("src")
    hasher.checksum("/")
    hasher.checksum("src/doc")
    assert len(entered) == 3  # src, src/doc, the root


# --- any tree

NAMES = st.sampled_from(["a", "b", "ab", "é", "a b", ".x", "-"])
TEXTS = st.sampled_from(["", "a", "b", "ab", "->a", "->ab"])
TREES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), TEXTS | st.none(), max_size=6)


def is_tree(files: dict[str, str | None]) -> bool:
    return not any(
        files.get("/".join(path.split("/")[:depth])) is not None
        for path in files
        for depth in range(1, path.count("/") + 1)
    )


def with_parents(files: dict[str, str | None]) -> dict[str, str | None]:
    parents = ("/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1))
    return {**dict.fromkeys(parents), **files}


@settings(deadline=None, max_examples=60)
@given(TREES.filter(is_tree), TREES.filter(is_tree))
def test_checksums_are_equal_if_and_only_if_trees_are(
    tmp_path_factory: pytest.TempPathFactory, plant: Plant, one: dict[str, str | None], two: dict[str, str | None]
) -> None:
    folder = tmp_path_factory.mktemp("trees")
    same = hashed(plant(folder / "one", one)) == hashed(plant(folder / "two", two))
    assert same == (with_parents(one) == with_parents(two))
    no_patterns = hashed(folder / "one", exclude=("none",)) == hashed(folder / "two", exclude=("none",))
    assert no_patterns == same


def test_a_tree_deeper_than_pythons_stack_is_hashed(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    try:
        assert hashed(tmp_path) != hashed(tmp_path, "d")
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest's own removal is recursive
