"""Keys in BuildKit's spelling, against digests that BuildKit 0.33 wrote into caches of its own.

What a whole Dockerfile gives is held against BuildKit's in tests/engine/test_sharedrecords.py.
"""

from __future__ import annotations

import hashlib

import pytest

from knarr.errors import Bug
from knarr.llb.ops import Copy, ExecMount, ExecOp, FileAction, FileOp, Meta, MountType, SourceOp
from knarr.solver.keys import Selection
from knarr.solver.sharedkeys import content_digest, http_key, image_key, record_digest, shared_map, source_map
from tests.solver.conftest import AMD64, local, vertex

MANIFEST = "sha256:5305771d5ce4623d9ade7a493c615579f641eb7b6802c4dda5b8c04c29619bab"
CHAIN = "sha256:9e19f61dcf9f3161cb319f8c9bc48eb40f7fc40bf1d03383ae7b00765f643675"
FILE = "sha256:" + hashlib.sha256(b"payload\n").hexdigest()


@pytest.mark.parametrize(
    ("key", "record"),
    [
        (image_key(MANIFEST, AMD64), "sha256:534047cd123ca6d5ae2039931613e9ce5182b52451d39a7a2ce2c3ff651d463c"),
        (CHAIN, "sha256:ca87400b08827c45b2822750cd93c37394a3cae3fbd403637a4dbc925697d3af"),
        (
            http_key("data.txt", (0, 0, 0), FILE, "Thu, 02 Jan 2020 03:04:05 GMT", "", {}),
            "sha256:eb40849bc853861dee2e17d7ca37236a254f518fab83c930f728e50abae6afe2",
        ),
    ],
    ids=["image", "chain", "url"],
)
def test_sources(key: str, record: str) -> None:
    assert record_digest(source_map(key).digests[0], 0) == record


def test_a_source_has_no_map_before_it_is_resolved() -> None:
    with pytest.raises(Bug):
        shared_map(vertex(SourceOp("local://context")))


def test_contents_are_joined_in_their_order() -> None:
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert content_digest([one, two]) != content_digest([two, one])
    assert content_digest([one]) != one


def _copy(*actions: Copy) -> tuple[Selection, ...]:
    chain = tuple(
        FileAction(
            0 if at == 0 else len(actions) + at, what, secondary_input=1, output=0 if at == len(actions) - 1 else -1
        )
        for at, what in enumerate(actions)
    )
    return shared_map(vertex(FileOp(chain), local("root"), local("context"))).deps[1].content


def test_plain_paths_below_others_are_left_out_and_filters_keep_their_order() -> None:
    later, sooner = Copy("/", "/x", include_patterns=("z",)), Copy("/", "/x", include_patterns=("a",))
    found = _copy(Copy("/d/e", "/"), later, Copy("/d", "/"), sooner, Copy("/de", "/"))
    assert [(one.path, one.include) for one in found] == [("/", ("z",)), ("/", ("a",)), ("/d", ()), ("/de", ())]


def test_followed_and_unfollowed_paths_do_not_cover_each_other() -> None:
    found = _copy(Copy("/d", "/", follow_symlink=True), Copy("/d/e", "/"))
    assert [(one.path, one.follow) for one in found] == [("/d", True), ("/d/e", False)]


def test_the_mounts_of_a_step_count_unless_there_is_only_its_root() -> None:
    root = ExecMount("/", 0, output=0)
    step = ExecOp(Meta(("true",)), (root,))
    more = ExecOp(Meta(("true",)), (root, ExecMount("/t", type=MountType.TMPFS)))
    other_root = ExecOp(Meta(("true",)), (ExecMount("/", 0, output=0, selector="/sub"),))
    digests = [shared_map(vertex(op, local("root"))).digests for op in (step, more, other_root)]
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]  # a selector counts where the input is linked
    selectors = [shared_map(vertex(op, local("root"))).deps[0].selector for op in (step, other_root)]
    assert selectors[0] != selectors[1]
