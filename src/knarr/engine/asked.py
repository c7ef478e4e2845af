"""Who was asked what on the way to a result: for provenance, which tells the question with the answer.

A frontend may ask another one, which may ask for graphs to be solved and for images
to be resolved. Each question to a frontend is an `Asked`, below the one it came from;
a result belongs to the innermost question that has it among its answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from knarr.attest.capture import ImageUsed
from knarr.attest.provenance import JSON, Request
from knarr.frontend.gateway import Ref
from knarr.llb.ops import Edge, Graph
from knarr.spec.digest import Digest


class Asked:
    """One question to a frontend, or, at the top, what a client asked by itself. Safe from several threads."""

    def __init__(self, request: Request, above: Asked | None = None) -> None:
        self.request = request
        self.above = above
        self._lock = threading.Lock()
        self._below: list[Asked] = []
        self._images: list[ImageUsed] = []
        self._given: dict[Edge, Ref] = {}  # what it gave, or had made
        self._evaluated: dict[Edge, Graph] = {}

    def below(self, request: Request) -> Asked:
        """A question that this one leads to."""
        made = Asked(request, self)
        with self._lock:
            self._below.append(made)
        return made

    def resolved(self, image: ImageUsed) -> None:
        """An image that was asked about."""
        with self._lock:
            self._images.append(image)

    def gave(self, ref: Ref) -> None:
        """A result that this question has led to."""
        if ref.graph.root is not None:
            with self._lock:
                self._given[ref.graph.root] = ref

    def evaluated(self, graph: Graph) -> None:
        """A graph that was solved for it."""
        if graph.root is not None:
            with self._lock:
                self._evaluated[graph.root] = graph

    def who_gave(self, root: Edge) -> Asked | None:
        """The innermost question whose answer has the result `root`."""
        with self._lock:
            below = list(self._below)
            mine = root in self._given
        for one in below:
            found = one.who_gave(root)
            if found is not None:
                return found
        return self if mine else None

    def images(self) -> Iterator[ImageUsed]:
        """Every image that was asked about here and below."""
        with self._lock:
            images, below = list(self._images), list(self._below)
        yield from images
        for one in below:
            yield from one.images()

    def graphs(self) -> Iterator[Graph]:
        """Every graph that was solved here and below."""
        with self._lock:
            graphs, below = list(self._evaluated.values()), list(self._below)
        yield from graphs
        for one in below:
            yield from one.graphs()

    @property
    def root(self) -> Request | None:
        """What the caller asked for, if it asked for anything."""
        top = self
        while top.above is not None:
            top = top.above
        first = top if _says_something(top.request) else self._outermost()
        return first.request if first is not None else None

    def _outermost(self) -> Asked | None:
        """The question that came first, where the caller itself said nothing."""
        found, one = None, self
        while one.above is not None:
            found, one = one, one.above
        return found


class Produced:
    """Who made the graphs that frontends are given as inputs, in all builds of an engine. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._makers: dict[Digest, list[tuple[object, Callable[[], JSON]]]] = {}

    def add(self, root: Digest, build: object, told: Callable[[], JSON]) -> None:
        """Note that the vertex `root` was made for a question of `build`, which `told` tells."""
        with self._lock:
            self._makers.setdefault(root, []).append((build, told))

    def forget(self, build: object) -> None:
        """A build has ended, and what was made for it counts no more."""
        with self._lock:
            for root, makers in list(self._makers.items()):
                left = [maker for maker in makers if maker[0] is not build]
                if left:
                    self._makers[root] = left
                else:
                    del self._makers[root]

    def of(self, root: Digest) -> JSON | None:
        """The question that led to `root`; None when nobody knows, or several have asked for it differently."""
        with self._lock:
            makers = list(self._makers.get(root, ()))
        found = [told() for _, told in makers]
        return found[0] if found and all(one == found[0] for one in found) else None


def _says_something(request: Request) -> bool:
    return bool(request.frontend or request.options or request.inputs)
