"""Ops as protobuf: every record survives the way there and back, and the bytes are Go's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.llb import ops
from knarr.llb.parse import read_op, read_platform
from knarr.llb.wire import encode_op
from knarr.pb import ops_pb2 as pb
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
NUMBER = st.integers(-(2**63), 2**63 - 1)
UNSIGNED = st.integers(0, 2**32 - 1)
MODE = st.integers(-1, 0o7777)
# No key begins another: there the library's C core (7.36) sorts unlike Go, and unlike its own Python form.
KEY = TEXT.map(lambda text: text + "\0")
PAIRS = st.dictionaries(KEY, TEXT, max_size=3)

USER = st.one_of(
    st.builds(ops.UserOpt, UNSIGNED),
    st.builds(ops.UserOpt, st.none(), TEXT.filter(bool), NUMBER),
)
OWNER = st.none() | st.builds(ops.ChownOpt, st.none() | USER, st.none() | USER)
PROXY = st.none() | st.builds(ops.ProxyEnv, TEXT, TEXT, TEXT, TEXT, TEXT)
META = st.builds(
    ops.Meta,
    TEXTS,
    TEXTS,
    TEXT,
    TEXT,
    PROXY,
    st.lists(st.builds(ops.HostIP, TEXT, TEXT), max_size=2).map(tuple),
    TEXT,
    st.lists(st.builds(ops.UlimitOpt, TEXT, NUMBER, NUMBER), max_size=2).map(tuple),
    TEXT,
    st.booleans(),
    st.lists(st.integers(0, 255), max_size=2).map(tuple),
)
PLAIN_MOUNT = {"dest": TEXT, "input": NUMBER, "selector": TEXT, "output": NUMBER, "readonly": st.booleans()}
MOUNT = st.one_of(
    st.builds(ops.ExecMount, **PLAIN_MOUNT, content_cache=st.sampled_from(ops.ContentCache), result_id=TEXT),
    st.builds(
        ops.ExecMount,
        **PLAIN_MOUNT,
        type=st.just(ops.MountType.CACHE),
        cache=st.builds(ops.CacheOpt, TEXT, st.sampled_from(ops.CacheSharing)),
    ),
    st.builds(
        ops.ExecMount, **PLAIN_MOUNT, type=st.just(ops.MountType.TMPFS), tmpfs_size=NUMBER, has_tmpfs_opt=st.just(True)
    ),
    st.builds(
        ops.ExecMount,
        **PLAIN_MOUNT,
        type=st.just(ops.MountType.SECRET),
        secret=st.builds(ops.SecretOpt, TEXT, UNSIGNED, UNSIGNED, UNSIGNED, st.booleans()),
    ),
    st.builds(
        ops.ExecMount,
        **PLAIN_MOUNT,
        type=st.just(ops.MountType.SSH),
        ssh=st.builds(ops.SSHOpt, TEXT, UNSIGNED, UNSIGNED, UNSIGNED, st.booleans()),
    ),
)
EXEC = st.builds(
    ops.ExecOp,
    META,
    st.lists(MOUNT, max_size=4).map(tuple),
    st.sampled_from(ops.NetMode),
    st.sampled_from(ops.SecurityMode),
    st.lists(st.builds(ops.SecretEnv, TEXT, TEXT, st.booleans()), max_size=2).map(tuple),
    st.lists(st.builds(ops.CDIDevice, TEXT, st.booleans()), max_size=2).map(tuple),
)
COPY = st.builds(
    ops.Copy,
    TEXT,
    TEXT,
    OWNER,
    MODE,
    TEXT,
    *[st.booleans() for _ in range(6)],
    NUMBER,
    TEXTS,
    TEXTS,
    st.booleans(),
    TEXTS,
)
ACTION = st.one_of(
    COPY,
    st.builds(ops.MkFile, TEXT, MODE, st.binary(max_size=8), OWNER, NUMBER),
    st.builds(ops.MkDir, TEXT, MODE, st.booleans(), OWNER, NUMBER),
    st.builds(ops.Rm, TEXT, st.booleans(), st.booleans()),
    st.builds(ops.Symlink, TEXT, TEXT, OWNER, NUMBER),
)
FILE = st.builds(ops.FileOp, st.lists(st.builds(ops.FileAction, NUMBER, ACTION, NUMBER, NUMBER), max_size=3).map(tuple))
OP = st.one_of(
    EXEC,
    FILE,
    st.builds(ops.SourceOp, TEXT, PAIRS),
    st.builds(ops.MergeOp, st.lists(NUMBER, max_size=3).map(tuple)),
    st.builds(ops.DiffOp, NUMBER, NUMBER),
    st.builds(ops.BuildOp, NUMBER, st.dictionaries(KEY, NUMBER, max_size=2), PAIRS),
    st.builds(ops.PassthroughOp, TEXT, st.lists(NUMBER, max_size=3).map(tuple)),
)


@settings(deadline=None, max_examples=150)
@given(OP)
def test_every_op_comes_back_as_it_went(op: ops.Op) -> None:
    parsed = pb.Op.FromString(encode_op(op, ()))

    assert read_op(parsed) == op


@settings(deadline=None, max_examples=50)
@given(OP)
def test_equal_ops_have_equal_bytes(op: ops.Op) -> None:
    again = read_op(pb.Op.FromString(encode_op(op, ())))

    assert again is not None
    assert encode_op(again, ()) == encode_op(op, ())


PLATFORM = st.none() | st.builds(Platform, TEXT, TEXT, TEXT, TEXT, TEXTS)
EDGES = st.lists(st.builds(ops.Edge, TEXT.map(Digest), NUMBER), max_size=3).map(tuple)


@settings(deadline=None, max_examples=200)
@given(OP, EDGES, PLATFORM, TEXTS)
def test_bytes_are_those_of_the_protobuf_library(
    op: ops.Op, inputs: tuple[ops.Edge, ...], platform: Platform | None, filters: tuple[str, ...]
) -> None:
    raw = encode_op(op, inputs, platform, filters)

    head, body = pb.Op.FromString(raw), pb.Op()
    kind = head.WhichOneof("op")
    getattr(body, kind).CopyFrom(getattr(head, kind))
    head.ClearField(kind)
    # The member of the oneof goes last, as Go writes it; Python's library goes by number.
    assert raw == head.SerializeToString(deterministic=True) + body.SerializeToString(deterministic=True)


def test_a_key_goes_before_those_that_it_begins() -> None:
    attrs = {"ab": "2", "b": "3", "": "0", "a": "1"}

    raw = encode_op(ops.SourceOp("", attrs), ())

    entries = b"".join(
        b"\x12%c\x0a%c%b\x12\x01%d" % (5 + len(key), len(key), key, at)
        for at, key in enumerate([b"", b"a", b"ab", b"b"])
    )
    assert raw.endswith(b"\x1a%c" % len(entries) + entries)


def test_a_number_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        encode_op(ops.PassthroughOp("p", (2**64,)), ())


def test_platform_with_all_its_parts_comes_back() -> None:
    windows = Platform("windows", "amd64", "v2", "10.0.17763", ("win32k",))

    parsed = pb.Op.FromString(encode_op(ops.SourceOp("docker-image://x"), (), windows))

    assert read_platform(parsed) == windows


def test_nested_definition_of_a_build_op_is_kept() -> None:
    inner = pb.Definition(**{"def": [b"x"]}).SerializeToString(deterministic=True)

    op = ops.BuildOp(-1, {}, {}, inner)

    assert read_op(pb.Op.FromString(encode_op(op, ()))) == op


def test_an_op_of_a_later_version_is_no_op_here() -> None:
    later: Any = pb.Op.FromString(b"\x4a\x02\x0a\x00")  # field 9

    assert read_op(later) is None


# What BuildKit (73ed682) gives for `FROM busybox@sha256:ee… AS a`, `RUN true`, `WORKDIR /w`, `FROM a`,
# `COPY --from=alpine@sha256:ee… /a /b`: the digests of its frontend's graph, on linux/amd64.
AMD64 = Platform("linux", "amd64")
BUSYBOX = Digest.parse("sha256:353760339aa0e000de36df3e9483044e9678347d18f5a731db1678d66024c173")
RUN = Digest.parse("sha256:db34e0649bf4531a89c79e92b115f093a46b8d7ff13a647e4e196915a67a73e9")
WORKDIR = Digest.parse("sha256:ff2a6e31074f3cf9a51a770e370db8d8251161becf1a674e4c4708a3af8a4c5c")
ALPINE = Digest.parse("sha256:e8e9bf01fd952a50596af8c1a750047b414af1efa8dde1575f312acfdfe81a90")
COPIED = "sha256:e5cf9121b95f93156b9aa9b7eb21c90ded3ff2e9f149c83ae680344eebe269d7"


def test_digest_of_an_image_is_buildkits() -> None:
    op = ops.SourceOp("docker-image://docker.io/library/busybox@sha256:" + "e" * 64)

    assert Digest.of(encode_op(op, (), AMD64)) == BUSYBOX


def test_digest_of_a_run_is_buildkits() -> None:
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    meta = ops.Meta(("/bin/sh", "-c", "true"), (path,), remove_mount_stubs_recursive=True)

    op = ops.ExecOp(meta, (ops.ExecMount("/", 0, output=0),))

    assert Digest.of(encode_op(op, (ops.Edge(BUSYBOX),), AMD64)) == RUN


def test_digest_of_a_mkdir_is_buildkits() -> None:
    op = ops.FileOp((ops.FileAction(0, ops.MkDir("/w", 0o755, make_parents=True), output=0),))

    assert Digest.of(encode_op(op, (ops.Edge(RUN),))) == WORKDIR


def test_digest_of_a_copy_is_buildkits() -> None:
    copy = ops.Copy(
        "/a",
        "/b",
        follow_symlink=True,
        dir_copy_contents=True,
        create_dest_path=True,
        allow_wildcard=True,
        allow_empty_wildcard=True,
    )

    op = ops.FileOp((ops.FileAction(0, copy, secondary_input=1, output=0),))

    assert Digest.of(encode_op(op, (ops.Edge(WORKDIR), ops.Edge(ALPINE)))) == COPIED
