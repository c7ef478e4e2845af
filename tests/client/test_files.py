"""Which files of a directory are told to a builder."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from knarr.client.files import Selection, Sender, entries, follow
from knarr.errors import KnarrError
from knarr.pb.packet_pb2 import Packet
from knarr.scope import Scope


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for path in ("a/b/c.txt", "a/b/d.md", "a/x.txt", "z/deep/er/f.go", "top.txt"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "link").symlink_to("a/b")
    (root / "out").symlink_to("../../outside")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    return root


def told(root: Path, **wanted: tuple[str, ...]) -> list[str]:
    return [entry.told for entry in entries(str(root), Selection(**wanted))]


def test_everything_in_the_order_of_its_parts(tree: Path) -> None:
    assert told(tree)[:6] == ["a", "a/b", "a/b/c.txt", "a/b/d.md", "a/x.txt", "link"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"include": ("a/b",)}, ["a", "a/b", "a/b/c.txt", "a/b/d.md"]),
        ({"include": ("**/*.go",)}, ["z", "z/deep", "z/deep/er", "z/deep/er/f.go"]),
        ({"include": ("a",), "exclude": ("a/b",)}, ["a", "a/x.txt"]),
        ({"include": ("a",), "exclude": ("a/b", "!a/b/d.md")}, ["a", "a/b", "a/b/d.md", "a/x.txt"]),
        ({"exclude": ("*", "!z/deep/er/f.go")}, ["z", "z/deep", "z/deep/er", "z/deep/er/f.go"]),
        ({"include": ("nothing",)}, []),
        ({"follow": ("link/c.txt",)}, ["a", "a/b", "a/b/c.txt", "link"]),
        ({"follow": ("*.txt",)}, ["top.txt"]),
        ({"follow": ("li*",)}, ["a", "a/b", "a/b/c.txt", "a/b/d.md", "link"]),
        ({"follow": ("out",)}, ["out"]),
        ({"follow": ("loop/x",)}, ["loop"]),
    ],
)
def test_patterns_and_paths_select(tree: Path, wanted: dict[str, tuple[str, ...]], expected: list[str]) -> None:
    assert told(tree, **wanted) == expected


def test_a_path_that_is_everything_selects_everything(tree: Path) -> None:
    assert follow(str(tree), ["a", "."]) is None
    assert told(tree, follow=("/",)) == told(tree)


def sent(root: Path, ask: int | None = None) -> list[Packet]:
    """What a builder that asks for every file (or for entry `ask`) is sent."""
    requests: SimpleQueue[Packet | None] = SimpleQueue()
    got: list[Packet] = []
    count = open_files = 0
    told_all = False
    with Scope() as scope:
        try:
            for packet in Sender("context", str(root), Selection()).packets(iter(requests.get, None), scope=scope):
                got.append(packet)
                if packet.type == Packet.PACKET_STAT and not packet.HasField("stat"):
                    told_all = True
                elif packet.type == Packet.PACKET_STAT:
                    if packet.stat.mode >> 19 == 0 and not packet.stat.linkname:
                        requests.put(Packet(type=Packet.PACKET_REQ, ID=count if ask is None else ask))
                        open_files += 1
                    count += 1
                elif packet.type == Packet.PACKET_DATA and not packet.data:
                    open_files -= 1
                if told_all and not open_files:
                    requests.put(Packet(type=Packet.PACKET_FIN))
        finally:
            requests.put(None)
    return got


def test_files_are_sent_whole_as_root_s_and_hard_links_once(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "big").write_bytes(b"x" * 700_000)
    os.link(root / "big", root / "same")
    got = sent(root)
    stats = {p.stat.path: p.stat for p in got if p.type == Packet.PACKET_STAT and p.HasField("stat")}
    assert stats["same"].linkname == "big"
    assert (stats["big"].uid, stats["big"].gid, stats["big"].size) == (0, 0, 700_000)
    assert b"".join(p.data for p in got if p.type == Packet.PACKET_DATA) == b"x" * 700_000
    assert got[-1].type == Packet.PACKET_FIN


def test_a_builder_that_asks_for_what_it_was_not_told_of_gets_nothing(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").write_text("x")
    with pytest.raises(KnarrError, match="asked for entry 7 of context"):
        sent(root, ask=7)


def test_many_files_asked_for_at_once_do_not_block(tmp_path: Path) -> None:
    """Requests come while entries are still told: neither side may wait for the other."""
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(3000):
        (root / f"f{number:04}").write_text("x")
    done = threading.Event()
    result: list[list[Packet]] = []

    def run() -> None:
        result.append(sent(root))
        done.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert done.wait(60)
    thread.join()
    assert sum(p.type == Packet.PACKET_DATA and bool(p.data) for p in result[0]) == 3000
