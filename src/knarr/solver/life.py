"""The life of one vertex: how far its identity and its results are, and what it waits for.

Plain state; `machine` has the rules.
"""

from __future__ import annotations

from enum import IntEnum

from knarr.llb.ops import Vertex
from knarr.solver.keys import CacheMap
from knarr.solver.messages import Fate, RecordId


class Stage(IntEnum):
    """How far a vertex's identity is."""

    IDLE = 0
    INPUTS = 1
    SOURCE = 2
    FAST = 3
    CONTENT = 4
    SLOW = 5
    KNOWN = 6


class Move(IntEnum):
    """What a vertex does next."""

    BEGIN = 0
    KEY = 1
    HASH = 2
    SLOW = 3
    PRODUCE = 4
    EXECUTE = 5
    FOLLOW = 6


class Life:
    """What is known of one vertex so far."""

    __slots__ = (
        "awaiting_identity",
        "awaiting_result",
        "contents",
        "fast",
        "fate",
        "hit",
        "ids",
        "ignores_cache",
        "loading",
        "making",
        "map",
        "outputs",
        "records",
        "slow",
        "stage",
        "usable",
        "vertex",
        "volatile",
        "wanted",
    )

    def __init__(self, vertex: Vertex, outputs: tuple[int, ...]) -> None:
        self.vertex = vertex
        self.outputs = outputs
        self.ignores_cache = vertex.metadata.ignore_cache
        self.stage = Stage.IDLE
        self.map = CacheMap("")
        self.fast = ""
        self.slow = ""
        self.volatile = False
        self.ids: dict[int, RecordId] = {}  # identity of each output
        self.usable: set[int] = set()  # outputs whose record has a result
        self.hit = False  # found by a key, or made by another vertex
        self.contents: dict[int, str] = {}  # by content-based input
        self.wanted: set[int] = set()  # outputs whose result somebody asked for
        self.loading: set[int] = set()
        self.making = False
        self.records: dict[int, RecordId] = {}  # outputs that are ready
        self.awaiting_identity: list[Gate] = []
        self.awaiting_result: dict[int, list[Gate]] = {}
        self.fate = Fate.NOT_NEEDED


class Gate:
    """A move that is made once `left` things have happened."""

    __slots__ = ("left", "life", "move")

    def __init__(self, life: Life, move: Move) -> None:
        self.life = life
        self.move = move
        self.left = 0
