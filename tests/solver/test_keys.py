"""The rows of BuildKit's cache-key rules that an op's fields decide (docs: "what makes a step run again")."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import Bug, UsageError
from knarr.llb.ops import (
    CacheOpt,
    CacheSharing,
    CDIDevice,
    ChownOpt,
    ContentCache,
    Copy,
    DiffOp,
    Edge,
    ExecMount,
    ExecOp,
    FileAction,
    FileOp,
    HostIP,
    MergeOp,
    Meta,
    Metadata,
    MkDir,
    MkFile,
    MountType,
    NetMode,
    Op,
    ProxyEnv,
    Rm,
    SecretEnv,
    SecretOpt,
    SecurityMode,
    SourceOp,
    SSHOpt,
    UlimitOpt,
    UserOpt,
    Vertex,
)
from knarr.record import fields, replace
from knarr.solver import keys
from knarr.solver.keys import CacheMap, Dep, Selection
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

AMD64 = Platform("linux", "amd64")
INPUTS = (Edge(Digest.of(b"root")), Edge(Digest.of(b"other")))
META = Meta(("/bin/sh", "-c", "make"), env=("PATH=/bin", "A=1"))
ROOT = ExecMount("/", 0, output=0)


def made(op: Op, platform: Platform | None = AMD64, inputs: int = 2, metadata: Metadata | None = None) -> Vertex:
    return Vertex(Digest.of(b"any"), op, INPUTS[:inputs], platform, metadata or Metadata())


def fast(op: Op, platform: Platform | None = AMD64, metadata: Metadata | None = None) -> str:
    return keys.fast_key(keys.cache_map(made(op, platform, metadata=metadata)), ("a", "b"))


def step(*mounts: ExecMount, meta: Meta = META, **more: Any) -> ExecOp:
    return ExecOp(meta, (ROOT, *mounts), **more)


def secret(mount: SecretOpt) -> ExecMount:
    return ExecMount("/run/secrets/x", type=MountType.SECRET, secret=mount)


def cache(identifier: str, sharing: CacheSharing = CacheSharing.SHARED) -> ExecMount:
    return ExecMount("/cache", type=MountType.CACHE, cache=CacheOpt(identifier, sharing))


def copy(what: Copy) -> FileOp:
    return FileOp((FileAction(0, what, secondary_input=1, output=0),))


HITS = {
    "proxy": (step(), step(meta=replace(META, proxy_env=ProxyEnv(http_proxy="http://p:3128")))),
    "another IP of an added host": (
        step(meta=replace(META, extra_hosts=(HostIP("db", "10.0.0.1"),))),
        step(meta=replace(META, extra_hosts=(HostIP("db", "10.0.0.2"),))),
    ),
    "id of a cache mount": (step(cache("one")), step(cache("two"))),
    "sharing of a cache mount": (step(cache("one")), step(cache("one", CacheSharing.LOCKED))),
}

MISSES = {
    "command": (step(), step(meta=replace(META, args=("/bin/sh", "-c", "make all")))),
    "env": (step(), step(meta=replace(META, env=(*META.env, "UNUSED_ARG=1")))),
    "cwd": (step(), step(meta=replace(META, cwd="/src"))),
    "user": (step(), step(meta=replace(META, user="1000"))),
    "hostname": (step(), step(meta=replace(META, hostname="builder"))),
    "ulimit": (step(), step(meta=replace(META, ulimits=(UlimitOpt("nofile", 1, 2),)))),
    "cgroup parent": (step(), step(meta=replace(META, cgroup_parent="/build"))),
    "name of an added host": (step(), step(meta=replace(META, extra_hosts=(HostIP("db", "10.0.0.1"),)))),
    "exit codes": (step(), step(meta=replace(META, valid_exit_codes=(0, 3)))),
    "network": (step(), step(network=NetMode.NONE)),
    "security": (step(), step(security=SecurityMode.INSECURE)),
    "device": (step(), step(cdi_devices=(CDIDevice("vendor/class=1"),))),
    "secret id": (step(secret(SecretOpt("x"))), step(secret(SecretOpt("y")))),
    "secret mode": (step(secret(SecretOpt("x"))), step(secret(SecretOpt("x", mode=0o444)))),
    "secret required": (step(secret(SecretOpt("x"))), step(secret(SecretOpt("x", optional=True)))),
    "secret variable": (step(), step(secret_env=(SecretEnv("x", "TOKEN"),))),
    "ssh owner": (
        step(ExecMount("/agent", type=MountType.SSH, ssh=SSHOpt("default"))),
        step(ExecMount("/agent", type=MountType.SSH, ssh=SSHOpt("default", uid=1))),
    ),
    "tmpfs size": (
        step(ExecMount("/tmp", type=MountType.TMPFS, tmpfs_size=1)),
        step(ExecMount("/tmp", type=MountType.TMPFS, tmpfs_size=2)),
    ),
    "cache mount gone": (step(cache("one")), step()),
    "target of a cache mount": (step(cache("x")), step(replace(cache("x"), dest="/elsewhere"))),
    "default cache mount with an id of its own": (step(cache("/cache")), step(cache("mine"))),
    "path of a bind mount": (
        step(ExecMount("/src", 1, selector="/a", readonly=True)),
        step(ExecMount("/src", 1, selector="/b", readonly=True)),
    ),
    "base name of a copied file": (copy(Copy("/f", "/x")), copy(Copy("/g", "/x"))),
    "directory of a copied file": (copy(Copy("/a/f", "/x")), copy(Copy("/b/f", "/x"))),
    "destination": (copy(Copy("/f", "/x")), copy(Copy("/f", "/y"))),
    "chmod": (copy(Copy("/f", "/x")), copy(Copy("/f", "/x", mode=0o600))),
    "exclude": (copy(Copy("/f", "/x")), copy(Copy("/f", "/x", exclude_patterns=("*.md",)))),
    "bytes of a made file": (
        FileOp((FileAction(0, MkFile("/f", 0o644, b"one"), output=0),)),
        FileOp((FileAction(0, MkFile("/f", 0o644, b"two"), output=0),)),
    ),
    "chain of actions": (
        FileOp((FileAction(0, MkDir("/a", 0o755)), FileAction(2, Rm("/b"), output=0))),
        FileOp((FileAction(0, MkDir("/a", 0o755)), FileAction(1, Rm("/b"), output=0))),
    ),
    "order of a merge": (MergeOp((0, 1)), MergeOp((1, 0))),
    "kind of op": (MergeOp((0, 1)), DiffOp(0, 1)),
}


@pytest.mark.parametrize("name", HITS)
def test_what_does_not_count(name: str) -> None:
    before, after = HITS[name]
    assert before != after
    assert fast(before) == fast(after)


@pytest.mark.parametrize("name", MISSES)
def test_what_counts(name: str) -> None:
    before, after = MISSES[name]
    assert fast(before) != fast(after)


@pytest.mark.parametrize(
    "other", [None, Platform("linux", "arm64"), Platform("windows", "amd64"), Platform("linux", "amd64", "v3")]
)
def test_the_platform_of_a_step_counts(other: Platform | None) -> None:
    assert fast(step()) != fast(step(), other)


def test_the_platform_of_a_file_op_does_not_count() -> None:
    assert fast(copy(Copy("/f", "/x"))) == fast(copy(Copy("/f", "/x")), Platform("linux", "arm64"))


def test_metadata_does_not_count() -> None:
    metadata = Metadata(ignore_cache=True, description={"llb.customname": "RUN make"}, caps=("exec.meta.base",))
    assert fast(step()) == fast(step(), metadata=metadata)


@pytest.mark.parametrize("identifier", ["/cache", "namespace//cache"])
def test_the_default_form_of_a_cache_mount_is_kept(identifier: str) -> None:
    assert fast(step(cache(identifier))) != fast(step(cache("")))


def test_a_default_cache_mount_that_is_locked_is_not_the_default_form() -> None:
    assert fast(step(cache("/cache", CacheSharing.LOCKED))) == fast(step(cache("other")))


# --- by content


def deps(op: Op) -> tuple[Dep, ...]:
    return keys.cache_map(made(op)).deps


def content_of(mount: ExecMount) -> tuple[Selection, ...]:
    return deps(step(mount))[1].content


def test_a_read_only_mount_is_known_by_the_content_of_its_path() -> None:
    mount = ExecMount("/src", 1, selector="app/", readonly=True, output=1)
    assert content_of(mount) == (Selection("/app", follow=True),)


def test_a_writable_mount_without_output_is_known_by_content() -> None:
    assert content_of(ExecMount("/src", 1, selector="/app")) == (Selection("/app", follow=True),)


def test_a_writable_mount_with_output_is_known_by_identity() -> None:
    assert content_of(ExecMount("/src", 1, selector="/app", output=1)) == ()


def test_a_writable_mount_of_a_whole_input_is_known_by_content() -> None:
    assert content_of(ExecMount("/src", 1, output=1)) == (Selection("/"),)


def test_the_root_is_known_by_identity_unless_asked_for() -> None:
    asked = replace(ROOT, content_cache=ContentCache.ON)
    assert deps(step())[0].content == ()
    assert deps(ExecOp(META, (asked,)))[0].content == (Selection("/"),)


def test_content_can_be_switched_off() -> None:
    assert content_of(ExecMount("/src", 1, readonly=True, content_cache=ContentCache.OFF)) == ()


def test_content_cannot_be_forced_where_files_could_ride_along() -> None:
    with pytest.raises(UsageError, match="mount /src"):
        content_of(ExecMount("/src", 1, selector="/app", output=1, content_cache=ContentCache.ON))


def test_one_mount_that_must_not_be_known_by_content_decides_for_its_input() -> None:
    safe = ExecMount("/src", 0, selector="/app", readonly=True)
    assert deps(step(safe))[0].content == ()


def test_paths_below_others_are_hashed_once() -> None:
    mounts = [ExecMount(f"/m{i}", 1, selector=path) for i, path in enumerate(("/a/b", "/a", "/ab"))]
    assert deps(step(*mounts))[1].content == (Selection("/a", follow=True), Selection("/ab", follow=True))


def test_secrets_and_tmpfs_read_no_input() -> None:
    mounts = [
        ExecMount("/s", 1, type=MountType.SECRET, secret=SecretOpt("x")),
        ExecMount("/t", 1, type=MountType.TMPFS),
    ]
    assert deps(step(*mounts))[1] == Dep()


def test_a_copied_source_is_known_by_content_and_the_tree_below_by_identity() -> None:
    what = Copy("src/*.c", "/x", follow_symlink=True, allow_wildcard=True, exclude_patterns=("*.o",))
    onto, source = deps(copy(what))
    assert onto.content == ()
    assert source.content == (Selection("src/*.c", follow=True, wildcard=True, exclude=("*.o",)),)


def test_a_source_without_wildcard_is_not_expanded() -> None:
    assert deps(copy(Copy("/f", "/x", allow_wildcard=True)))[1].content == (Selection("/f"),)


def test_an_input_that_is_copied_from_and_changed_is_known_by_identity() -> None:
    both = FileOp((FileAction(0, Copy("/f", "/x"), secondary_input=1), FileAction(1, MkDir("/d", 0o755), output=0)))
    assert deps(both)[1].content == ()


def test_names_of_owners_are_looked_up_in_the_content_of_their_files() -> None:
    owner = ChownOpt(UserOpt(name="app", input=1), UserOpt(name="staff", input=1))
    made_dir = FileOp((FileAction(0, MkDir("/d", 0o755, owner=owner), output=0),))
    paths = [selection.path for selection in deps(made_dir)[1].content]
    assert paths == ["/etc/group", "/etc/passwd"]


def test_a_numeric_owner_reads_nothing() -> None:
    owner = ChownOpt(UserOpt(id=0, input=1), UserOpt(id=0, input=1))
    assert deps(FileOp((FileAction(0, MkDir("/d", 0o755, owner=owner), output=0),)))[1] == Dep()


def test_a_source_made_by_the_same_op_counts_by_its_whole_path() -> None:
    def chained(src: str) -> FileOp:
        make = FileAction(0, MkFile("/a/f", 0o644, b""))
        return FileOp((make, FileAction(2, Copy(src, "/x"), secondary_input=2, output=0)))

    assert keys.cache_map(made(chained("/a/f"))).digest != keys.cache_map(made(chained("/b/f"))).digest


# --- slow keys


def slow(op: Op, identity: str, content: str) -> str:
    cache_map = keys.cache_map(made(op))
    return keys.slow_key(cache_map, (identity, "whatever"), {1: content})


def test_moving_a_file_under_its_name_hits_by_content() -> None:
    assert slow(copy(Copy("/a/f", "/x")), "base", "c") == slow(copy(Copy("/b/f", "/x")), "base", "c")


def test_renaming_a_file_misses_by_content() -> None:
    assert slow(copy(Copy("/a/f", "/x")), "base", "c") != slow(copy(Copy("/a/g", "/x")), "base", "c")


def test_the_tree_below_counts_by_content_too() -> None:
    assert slow(copy(Copy("/f", "/x")), "base", "c") != slow(copy(Copy("/f", "/x")), "another", "c")


def test_another_path_with_equal_content_hits_a_bind_mount() -> None:
    one, two = (step(ExecMount("/src", 1, selector=path, readonly=True)) for path in ("/a", "/b"))
    assert slow(one, "base", "c") == slow(two, "base", "c")


def test_fast_and_slow_keys_never_meet() -> None:
    cache_map = CacheMap("op", (Dep(),))
    assert keys.fast_key(cache_map, ("a",)) != keys.slow_key(cache_map, ("a",), {})


def test_each_output_has_its_own_key() -> None:
    assert len({keys.output_key("k", index) for index in range(4)}) == 4


def test_a_fresh_identity_belongs_to_one_build() -> None:
    assert len({"k", keys.fresh_id("k", "one"), keys.fresh_id("k", "two")}) == 3


def test_a_source_has_no_key_of_its_own() -> None:
    with pytest.raises(Bug):
        keys.cache_map(made(SourceOp("docker-image://base"), inputs=0))


# --- encoding

TEXT = st.text(max_size=6) | st.sampled_from(["", ",", "'", '"', "]", "\\", "é", "\udcff"])


@settings(deadline=None)
@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4))
def test_different_arguments_have_different_keys(one: list[str], two: list[str]) -> None:
    same = fast(step(meta=Meta(tuple(one)))) == fast(step(meta=Meta(tuple(two))))
    assert same == (one == two)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=3), st.lists(TEXT, max_size=3), st.lists(TEXT, max_size=3), st.lists(TEXT, max_size=3))
def test_values_do_not_move_between_fields(a: list[str], b: list[str], c: list[str], d: list[str]) -> None:
    one, two = Meta(tuple(a), env=tuple(b)), Meta(tuple(c), env=tuple(d))
    assert (fast(step(meta=one)) == fast(step(meta=two))) == (one == two)


def test_every_field_of_a_step_is_in_its_encoding() -> None:
    encoded = keys.canonical(META)
    assert isinstance(encoded, list)
    assert len(encoded) == 1 + len(fields(Meta))


def test_keys_are_the_same_in_every_process() -> None:
    attrs = "{'b': '1', 'a': '2'}"
    code = (
        "from knarr.llb.ops import BuildOp; from knarr.solver.keys import canonical, _hash;"
        f"print(_hash(canonical(BuildOp(-1, {{'x': 0, 'y': 1}}, {attrs}))), hash('seed'))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in ("1", "2")
    ]
    one, two = (run.stdout.split() for run in runs)
    assert one[1] != two[1]
    assert one[0] == two[0]
