"""A world small enough to think about: trees are dicts, and every op is a function of what it reads."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from knarr.llb.ops import (
    Copy,
    Edge,
    ExecMount,
    ExecOp,
    FileAction,
    FileOp,
    Graph,
    Meta,
    Metadata,
    Op,
    SourceOp,
    Vertex,
)
from knarr.solver import keys
from knarr.solver import messages as m
from knarr.solver.graph import SolverGraph
from knarr.solver.machine import Machine
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

AMD64 = Platform("linux", "amd64")
Tree = dict[str, str]  # path → content


def vertex(
    op: Op, *inputs: Edge | Vertex, platform: Platform | None = AMD64, ignore_cache: bool = False, name: str = ""
) -> Vertex:
    edges = tuple(item if isinstance(item, Edge) else Edge(item.digest) for item in inputs)
    text = ascii([keys.canonical(op), keys.canonical(edges), keys.canonical(platform)])
    metadata = Metadata(ignore_cache=ignore_cache, description={"llb.customname": name})
    return Vertex(Digest.of(text.encode()), op, edges, platform, metadata)


def run(command: str, root: Edge | Vertex, *, env: Sequence[str] = (), ignore_cache: bool = False) -> Vertex:
    op = ExecOp(Meta((command,), env=tuple(env)), (ExecMount("/", 0, output=0),))
    return vertex(op, root, ignore_cache=ignore_cache)


def copy(source: Edge | Vertex, root: Edge | Vertex, src: str, dest: str) -> Vertex:
    op = FileOp((FileAction(0, Copy(src, dest, follow_symlink=True), secondary_input=1, output=0),))
    return vertex(op, root, source)


def image(name: str) -> Vertex:
    return vertex(SourceOp(f"docker-image://{name}"))


def local(name: str) -> Vertex:
    return vertex(SourceOp(f"local://{name}"))


def git(name: str) -> Vertex:
    return vertex(SourceOp(f"git://{name}"))


def graph(vertices: Iterable[Vertex], goal: Vertex | None = None) -> Graph:
    ordered = {v.digest: v for v in vertices}
    last = goal or list(ordered.values())[-1]
    return Graph(ordered, Edge(last.digest))


def digest_of(tree: Tree) -> str:
    return hashlib.sha256(ascii(sorted(tree.items())).encode()).hexdigest()


def below(tree: Tree, path: str) -> Tree:
    """The part of `tree` that `path` selects, by path relative to it."""
    path = path.rstrip("/")
    return {name[len(path) :]: what for name, what in tree.items() if name == path or name.startswith(path + "/")}


@dataclass
class World:
    """What is outside the solver: sources, and the cache of earlier builds."""

    sources: dict[str, Tree] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    records: dict[str, Tree] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)  # records that look usable and are not
    builds: int = 0
    executed: list[Digest] = field(default_factory=list)  # of the last build
    cached: list[Digest] = field(default_factory=list)
    asked: list[m.Instruction] = field(default_factory=list)
    events: list[m.Event] = field(default_factory=list)

    def build(self, solver: SolverGraph, *, order: random.Random | None = None) -> Machine:
        """Drive a machine to its end, answering in the order that `order` picks (oldest first without it)."""
        self.builds += 1
        self.executed, self.cached, self.asked, self.events = [], [], [], []
        machine = Machine(solver, nonce=f"build {self.builds}")
        todo = machine.start()
        while todo:
            instruction = todo.pop(order.randrange(len(todo)) if order else 0)
            self.asked.append(instruction)
            event = self.answer(solver, instruction)
            if event is not None:
                self.events.append(event)
                todo += machine.step(event)
        assert machine.finished
        return machine

    def answer(self, solver: SolverGraph, instruction: m.Instruction) -> m.Event | None:
        match instruction:
            case m.ResolveSource(digest):
                return self.resolved(instruction, solver.vertices[digest])
            case m.Query(_, wanted):
                hits = {i: self.hit(self.keys[key]) for i, key in wanted if key in self.keys}
                return m.Queried(instruction, hits)
            case m.HashContent(_, _, record, selection):
                part = below(self.records[record], selection.path)
                if not part:
                    return m.Failed(instruction, FileNotFoundError(selection.path))
                return m.Hashed(instruction, digest_of(part))
            case m.Load(_, record):
                return m.LoadFailed(instruction) if record in self.broken else m.Loaded(instruction)
            case m.Execute():
                return self.execute(instruction, solver.vertices[instruction.vertex])
            case m.Link(key, record):
                self.keys[key] = record
            case m.Cached(digest):
                self.cached.append(digest)
        return None

    def hit(self, record: str) -> m.Hit:
        return m.Hit(record, usable=record in self.records)

    def resolved(self, of: m.ResolveSource, source: Vertex) -> m.SourceResolved:
        assert isinstance(source.op, SourceOp)
        name = source.op.identifier
        content = digest_of(self.sources[name])
        if name.startswith("local://"):
            return m.SourceResolved(of, f"session {self.builds} {name}", volatile=True)
        if name.startswith("docker-image://"):
            record = f"layer:{content}"
            self.records[record] = self.sources[name]
            return m.SourceResolved(of, content, record=record)
        return m.SourceResolved(of, content)

    def execute(self, of: m.Execute, what: Vertex) -> m.Event:
        for record in of.inputs:
            assert record not in self.broken
        trees = apply(what, [self.records[record] for record in of.inputs], self.sources)
        if isinstance(trees, BaseException):
            return m.Failed(of, trees)
        self.executed.append(what.digest)
        for output in of.outputs:
            self.records[output.id] = trees[output.index]
            self.broken.discard(output.id)
            for key in output.keys:
                self.keys[key] = output.id
        return m.Done(of)

    def tree(self, machine: Machine, goal: Edge) -> Tree:
        return self.records[machine.results[goal]]


def apply(what: Vertex, inputs: Sequence[Tree], sources: dict[str, Tree]) -> list[Tree] | BaseException:
    """What `what` makes of its inputs, one tree per output: the truth that the cache must not change."""
    op = what.op
    if isinstance(op, SourceOp):
        return [dict(sources[op.identifier])]
    if isinstance(op, FileOp):
        action = op.actions[0]
        assert isinstance(action.action, Copy)
        part = below(inputs[action.secondary_input], action.action.src)
        if not part:
            return FileNotFoundError(action.action.src)
        return [{**inputs[action.input], **{action.action.dest + name: text for name, text in part.items()}}]
    assert isinstance(op, ExecOp)
    if op.meta.args[0] == "fail":
        return RuntimeError("exit code 1")
    seen = [(mount.dest, digest_of(below(inputs[mount.input], mount.selector))) for mount in op.mounts]
    text = digest_of({**dict(seen), "args": ascii(op.meta.args), "env": ascii(op.meta.env)})
    outputs = sorted((mount for mount in op.mounts if mount.output >= 0), key=lambda mount: mount.output)
    return [
        {**inputs[mount.input], f"{mount.selector}/made-by-{op.meta.args[0]}-{mount.dest}": text} for mount in outputs
    ]


def truth(solver: SolverGraph, sources: dict[str, Tree]) -> dict[Edge, Tree]:
    """Every goal's tree, made with no cache at all."""
    made: dict[Digest, list[Tree]] = {}
    for digest, what in solver.vertices.items():
        trees = apply(what, [made[edge.digest][edge.index] for edge in what.inputs], sources)
        assert not isinstance(trees, BaseException)
        made[digest] = trees
    return {goal: made[goal.digest][goal.index] for goal in solver.goals}


class Kit:
    """What tests build graphs with."""

    vertex = staticmethod(vertex)
    run = staticmethod(run)
    copy = staticmethod(copy)
    image = staticmethod(image)
    local = staticmethod(local)
    git = staticmethod(git)
    graph = staticmethod(graph)
    truth = staticmethod(truth)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit


@pytest.fixture(scope="session")
def new_world() -> Callable[..., World]:
    return World
