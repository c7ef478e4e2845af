"""Graphs that no Dockerfile makes: diffs, merges of diffs, graphs in files, inputs passed through.

What is expected was measured on a real buildkitd (of 2026-08) with the same graphs, made by
Go's llb; a hundred more, random ones among them, were compared outside of this suite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from knarr.builder import Export
from knarr.config import Settings
from knarr.engine.engine import Engine
from knarr.errors import KnarrError
from knarr.frontend.request import FrontendResult, PlatformResult
from knarr.llb import ops
from knarr.llb.decode import decode
from knarr.llb.definition import encode, vertex
from knarr.llb.ops import Edge, Graph, Vertex
from knarr.progress import Silent
from knarr.session.dockerconfig import DockerConfig
from knarr.session.local import LocalSession
from knarr.spec.config import ImageConfig
from knarr.spec.platform import host_platform
from tests.engine.conftest import Image, open_archive

pytestmark = [pytest.mark.root, pytest.mark.system]

Solve = Callable[[Vertex], Image]


class Graphs:
    """Makes vertices, and remembers all of them: a graph is those that its root reaches."""

    def __init__(self) -> None:
        self._made: dict[Any, Vertex] = {}
        self.base = self.add(ops.SourceOp("docker-image://docker.io/library/busybox:latest"))

    def add(self, op: ops.Op, *inputs: Vertex) -> Vertex:
        made = vertex(op, tuple(Edge(v.digest) for v in inputs), platform=host_platform())
        self._made[made.digest] = made
        return made

    def file(self, below: Vertex | None, *actions: Any) -> Vertex:
        """Each action a vertex of its own, that is, a layer."""
        for action in actions:
            inputs = [] if below is None else [below]
            below = self.add(ops.FileOp((ops.FileAction(len(inputs) - 1, action, output=0),)), *inputs)
        assert below is not None
        return below

    def run(self, below: Vertex, script: str) -> Vertex:
        meta = ops.Meta(("/bin/sh", "-ec", script), ("PATH=/bin",))
        return self.add(ops.ExecOp(meta, (ops.ExecMount("/", 0, output=0),)), below)

    def diff(self, lower: Vertex | None, upper: Vertex | None) -> Vertex:
        inputs = [v for v in (lower, upper) if v is not None]
        at = ops.NO_INPUT if lower is None else 0
        return self.add(ops.DiffOp(at, ops.NO_INPUT if upper is None else len(inputs) - 1), *inputs)

    def merge(self, *inputs: Vertex) -> Vertex:
        return self.add(ops.MergeOp(tuple(range(len(inputs)))), *inputs)

    def definition(self, root: Vertex, output: int = 0) -> bytes:
        return encode(Graph(self._made, Edge(root.digest, output)))


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


@pytest.fixture
def image_of(graphs: Graphs, bases: Any, tmp_path: Path) -> Callable[..., Image]:
    """Solve a vertex and open the image of what comes of it."""
    environ = {"KNARR_ROOT": str(tmp_path / "state"), "KNARR_HOSTS_DIR": str(bases.hosts_dir)}

    def image_of(root: Vertex, output: int = 0) -> Image:
        graph = decode(graphs.definition(root, output))
        engine = Engine(Settings.from_environment(environ))
        with engine.open(LocalSession({"context": tmp_path / "context"}, {}, DockerConfig(())), Silent()) as job:
            records = job.solve([graph], name="a graph")
            result = PlatformResult(host_platform(), graph, ImageConfig(host_platform()))
            job.export([Export("oci", {"dest": str(tmp_path / "out.tar")})], FrontendResult((result,)), records)
        return open_archive(tmp_path / "out.tar")[0]

    return image_of


def mkfile(path: str, text: str = "") -> ops.MkFile:
    return ops.MkFile(path, 0o644, text.encode(), timestamp=1_500_000_000_000_000_000)


def mkdir(path: str) -> ops.MkDir:
    return ops.MkDir(path, 0o755, timestamp=1_500_000_000_000_000_000)


def copy(source: str, dest: str) -> ops.Copy:
    return ops.Copy(source, dest)


def test_the_layers_that_separate_two_trees_are_their_difference(graphs: Graphs, image_of: Solve) -> None:
    upper = graphs.file(graphs.base, mkfile("/a", "a"), mkdir("/d"), mkfile("/d/f", "f"))

    assert image_of(graphs.diff(graphs.base, upper)).layers == [["a"], ["d"], ["d", "d/f"]]


def test_a_difference_keeps_its_deletions_for_where_it_is_laid(graphs: Graphs, image_of: Solve) -> None:
    upper = graphs.run(graphs.base, "rm /bin/vi; rm -r /root /tmp; mkdir /tmp; echo x > /tmp/new")
    difference = graphs.diff(graphs.base, upper)
    other = graphs.file(graphs.base, mkfile("/other"))

    changes = ["bin", "bin/.wh.vi", ".wh.root", "tmp", "tmp/new"]
    assert sorted(image_of(difference).layers[0]) == sorted(changes)
    merged = image_of(graphs.merge(other, difference))
    assert [sorted(layer) for layer in merged.layers[1:]] == [["other"], sorted(changes)]
    assert "bin/vi" not in merged.files
    assert {"other", "tmp/new"} <= merged.files.keys()


def test_trees_of_different_origin_are_compared(graphs: Graphs, image_of: Solve) -> None:
    lower = graphs.run(
        graphs.base,
        "mkdir -p /t/gone/deep; echo same > /t/same; touch -d @1400000000 /t/same; ln -s a /t/link; echo f > /t/dir; "
        "mkdir /t/file; echo y > /t/file/y; echo m > /t/mode; touch -d @1400000000 /t/mode",
    )
    upper = graphs.run(
        graphs.base,
        "mkdir -p /t/new; echo same > /t/same; touch -d @1400000000 /t/same; ln -s b /t/link; mkdir /t/dir; "
        "echo z > /t/dir/z; echo y > /t/file; echo m > /t/mode; chmod 600 /t/mode; touch -d @1400000000 /t/mode",
    )

    image = image_of(graphs.diff(lower, upper))

    assert image.layers == [["t", "t/dir", "t/dir/z", "t/file", "t/.wh.gone", "t/link", "t/mode", "t/new"]]
    assert image.mode("t/mode")[0] == 0o600


def test_what_lies_above_a_difference_sees_it(graphs: Graphs, image_of: Solve) -> None:
    lower = graphs.run(graphs.base, "mkdir /t; echo 1 > /t/f; echo gone > /t/gone")
    upper = graphs.run(graphs.base, "mkdir /t; echo 22 > /t/f")
    merged = graphs.merge(lower, graphs.diff(lower, upper))
    image = image_of(graphs.run(merged, "ls /t > /seen; cat /t/f >> /seen"))

    assert image.contents["seen"] == b"f\n22\n"


def test_one_layer_more_that_a_merge_made_is_compared_and_several_are_taken(graphs: Graphs, image_of: Solve) -> None:
    one = graphs.file(graphs.base, mkfile("/one", "1"))
    again = graphs.file(None, mkfile("/one", "1"))
    more = graphs.file(again, mkfile("/two", "2"))

    assert image_of(graphs.diff(one, graphs.merge(one, again))).layers == [[]]
    assert image_of(graphs.diff(one, graphs.merge(one, more))).layers == [["one"], ["two"]]


def test_differences_with_nothing(graphs: Graphs, image_of: Solve) -> None:
    one = graphs.file(graphs.base, mkfile("/one", "1"))
    extra = graphs.file(None, mkfile("/x"))
    whole = image_of(graphs.diff(None, one))

    assert len(whole.layers) == 2
    assert image_of(graphs.diff(one, one)).manifest["layers"] is None
    assert image_of(graphs.merge(graphs.diff(one, one), extra)).layers == [["x"]]
    assert image_of(graphs.file(graphs.diff(one, one), mkfile("/y"))).layers == [["y"]]
    emptied = image_of(graphs.merge(graphs.base, graphs.diff(graphs.base, None), extra))
    assert sorted(emptied.files) == ["x"]


def test_a_copy_out_of_a_difference_has_only_what_differs(graphs: Graphs, image_of: Solve) -> None:
    upper = graphs.file(graphs.base, mkdir("/d"), mkfile("/d/f"), mkfile("/g"))
    action = ops.FileAction(0, copy("/", "/all"), secondary_input=1, output=0)
    image = image_of(graphs.add(ops.FileOp((action,)), graphs.base, graphs.diff(graphs.base, upper)))

    assert image.layers[-1] == ["all", "all/d", "all/d/f", "all/g"]


def test_an_image_without_layers_is_a_base_like_any_other(graphs: Graphs, image_of: Solve) -> None:
    empty = graphs.diff(graphs.base, graphs.base)

    assert image_of(graphs.file(empty, mkfile("/f"))).layers == [["f"]]


def build_op(graphs: Graphs, source: Vertex, **attrs: str) -> Vertex:
    named = {key.replace("_", "."): value for key, value in attrs.items()}
    return graphs.add(ops.BuildOp(-1, {"buildkit.llb.definition": 0}, named), source)


def test_a_graph_in_a_file_is_solved(graphs: Graphs, image_of: Solve) -> None:
    inner = graphs.definition(graphs.file(graphs.base, mkfile("/inner", "i")))
    source = graphs.file(None, mkdir("/x"), ops.MkFile("/x/llb", 0o600, inner))
    image = image_of(graphs.file(build_op(graphs, source, llbbuild_filename="/x/llb"), mkfile("/after")))

    assert image.layers[1:] == [["inner"], ["after"]]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([mkfile("/other")], "buildkit.llb.definition: no such file"),
        ([mkfile("/buildkit.llb.definition", "not a graph")], "LLB"),
        ([ops.Symlink("/etc/passwd", "/buildkit.llb.definition")], "no such file"),  # inside the tree there is none
    ],
)
def test_a_file_without_a_graph_is_told(graphs: Graphs, image_of: Solve, made: Sequence[Any], words: str) -> None:
    with pytest.raises(KnarrError, match=words):
        image_of(build_op(graphs, graphs.file(None, *made)))


def test_a_graph_that_asks_for_itself_is_refused(graphs: Graphs, image_of: Solve, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    asks = build_op(graphs, graphs.add(ops.SourceOp("local://context")))
    (tmp_path / "context/buildkit.llb.definition").write_bytes(graphs.definition(asks))

    with pytest.raises(KnarrError, match="part of itself"):
        image_of(asks)


def test_a_callers_directory_can_be_merged_and_compared(graphs: Graphs, image_of: Solve, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/f").write_text("f")
    lent = graphs.add(ops.SourceOp("local://context"))
    file = graphs.file(None, mkfile("/g"))

    assert image_of(graphs.merge(file, lent)).layers == [["g"], ["f"]]
    assert image_of(graphs.diff(file, lent)).layers == [["f", ".wh.g"]]


def test_inputs_are_passed_through_in_the_order_asked_for(graphs: Graphs, image_of: Callable[..., Image]) -> None:
    one, two = (graphs.file(None, mkfile(f"/{name}")) for name in ("one", "two"))
    passed = graphs.add(ops.PassthroughOp("p", (1, 0)), one, two)

    assert [image_of(passed, output).layers for output in (0, 1)] == [[["two"]], [["one"]]]
