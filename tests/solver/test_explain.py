from __future__ import annotations

import pytest

from knarr.llb.ops import (
    BuildOp,
    ChownOpt,
    Copy,
    Edge,
    ExecMount,
    ExecOp,
    FileAction,
    FileOp,
    HostIP,
    Meta,
    MkDir,
    MkFile,
    MountType,
    NetMode,
    Op,
    Rm,
    SecretEnv,
    SecretOpt,
    SourceOp,
    SSHOpt,
    Symlink,
    UlimitOpt,
    UserOpt,
    Vertex,
)
from knarr.record import replace
from knarr.solver.explain import Input, explain, ingredients, nearest
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

META = Meta(("/bin/sh", "-c", "make"), env=("PATH=/bin", "MODE=debug"), cwd="/src")
STEP = ExecOp(META, (ExecMount("/", 0, output=0),))
FILE = "100644 0:0 " + 64 * "a"
DIRECTORY = "040755 0:0 " + 64 * "d"


def of(op: Op, *inputs: Input, arch: str = "amd64") -> dict[str, str]:
    return ingredients(Vertex(Digest.of(b"v"), op, (Edge(Digest.of(b"i")),), Platform("linux", arch)), inputs)


def step(**changes: object) -> ExecOp:
    return replace(STEP, meta=replace(META, **changes))


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (step(env=("PATH=/bin", "MODE=release")), "ENV MODE changed: debug → release"),
        (step(env=(*META.env, "CI=")), "ENV CI is new: "),
        (step(env=("PATH=/bin",)), "ENV MODE is gone"),
        (step(args=("/bin/sh", "-c", "make all")), "command changed: /bin/sh -c make → /bin/sh -c make all"),
        (step(cwd="/app"), "workdir changed: /src → /app"),
        (step(user="app"), "user is new: app"),
        (step(extra_hosts=(HostIP("db", "10.0.0.1"),)), "host db is new: added"),
        (step(ulimits=(UlimitOpt("nofile", 1, 2),)), "ulimit nofile is new: 1:2"),
        (replace(STEP, network=NetMode.NONE), "network changed: unset → none"),
        (replace(STEP, secret_env=(SecretEnv("id", "TOKEN"),)), "secret TOKEN is new: required"),
    ],
)
def test_a_step_that_differs_in_one_thing(now: ExecOp, line: str) -> None:
    assert explain(of(now), of(STEP)) == [line]


def test_another_platform() -> None:
    assert explain(of(STEP, arch="arm64"), of(STEP)) == ["platform changed: linux/amd64 → linux/arm64"]


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        (
            ExecMount("/run/secrets/x", type=MountType.SECRET, secret=SecretOpt("x", mode=0o440)),
            "mount /run/secrets/x is new: secret x 0:0 0440 required",
        ),
        (ExecMount("/agent", type=MountType.SSH, ssh=SSHOpt("default")), "mount /agent is new: ssh default 0:0 0600"),
        (ExecMount("/tmp", type=MountType.TMPFS, tmpfs_size=64), "mount /tmp is new: tmpfs 64 bytes"),
        (ExecMount("/src", 0, readonly=True), "mount /src is new: bind read-only"),
    ],
)
def test_a_mount_more(mount: ExecMount, text: str) -> None:
    assert explain(of(replace(STEP, mounts=(*STEP.mounts, mount))), of(STEP)) == [text]


def test_another_base() -> None:
    then, now = (of(STEP, Input("base image debian", identity)) for identity in ("layer:sha256:1", "layer:sha256:2"))
    assert explain(now, then) == ["base image debian changed (chain id)"]


def test_another_stage() -> None:
    then, now = (of(STEP, Input("stage build", identity)) for identity in ("1", "2"))
    assert explain(now, then) == ["stage build changed"]


def changed(then: dict[str, str], now: dict[str, str]) -> list[str]:
    return explain(of(STEP, Input("build context", files=now)), of(STEP, Input("build context", files=then)))


def test_a_changed_file_is_named_and_its_directories_are_not() -> None:
    then = {"src": DIRECTORY, "src/a.go": FILE}
    now = {"src": DIRECTORY.replace("d", "e"), "src/a.go": FILE.replace("a", "b")}
    assert changed(then, now) == ["file src/a.go: content (build context)"]


def test_a_new_and_a_deleted_file() -> None:
    assert changed({"old": FILE}, {"new": FILE}) == ["file new: new (build context)", "file old: gone (build context)"]


def test_a_umask_is_guessed_from_many_modes() -> None:
    then = {f"f{number}": FILE.replace("644", "664") for number in range(212)}
    now = dict.fromkeys(then, FILE)
    assert changed(then, now) == ["mode 0664 → 0644 on 212 files, such as f0 (umask?) (build context)"]


def test_an_owner() -> None:
    assert changed({"f": FILE}, {"f": FILE.replace("0:0", "5:6")}) == ["file f: owner 0:0 → 5:6 (build context)"]


def test_many_files_are_counted_and_some_named() -> None:
    then = {f"f{number}": FILE for number in range(8)}
    now = {path: FILE.replace("a", "b") for path in then}
    assert changed(then, now) == ["8 files: content: f0, f1, f2, f3, f4 and 3 more (build context)"]


def test_of_a_great_many_files_the_directories_stand_for_what_is_below_them() -> None:
    then = {"deep": DIRECTORY, **{f"deep/{number:05}": FILE for number in range(5000)}}
    now = {**then, "deep": DIRECTORY.replace("d", "e"), "deep/04999": FILE.replace("a", "b")}
    assert changed(then, now) == ["file deep: content (build context)"]
    assert len(of(STEP, Input("build context", files=now))) < 2100


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Copy("a", "/b", owner=ChownOpt(UserOpt(5), UserOpt(name="g")), mode=0o600), "copy a /b owner=5:g mode=0600"),
        (Copy("a", "/b", mode_str="u=r", exclude_patterns=("*.md",)), "copy a /b mode=u=r exclude=*.md"),
        (MkDir("/d", 0o755, owner=ChownOpt(UserOpt(1))), "mkdir /d mode=0755 owner=1:"),
        (Rm("/d"), "rm /d"),
        (Symlink("a", "/b"), "symlink a /b"),
    ],
)
def test_what_a_file_op_does(action: Copy | MkDir | Rm | Symlink, text: str) -> None:
    assert of(FileOp((FileAction(0, action, output=0),))) == {"action 1": text}


def test_a_made_file_of_equal_size_differs() -> None:
    then, now = (of(FileOp((FileAction(0, MkFile("/f", 0o644, data), output=0),))) for data in (b"one", b"two"))
    (line,) = explain(now, then)
    assert line.startswith("action 1 changed: mkfile /f mode=0644 content=")


def test_sources_and_builds_have_ingredients() -> None:
    assert of(SourceOp("git://repo")) == {"source": "git://repo"}
    assert of(BuildOp(-1, attrs={"b": "1", "a": "2"})) == {"attributes": "a=2, b=1"}


def test_a_first_run_has_nothing_to_compare_with() -> None:
    assert explain(of(STEP), None) == ["this step has not run before"]


def test_equal_runs_differ_in_nothing() -> None:
    assert explain(of(STEP), of(STEP)) == []


def test_the_nearest_run_is_the_one_with_fewest_differences() -> None:
    now = {"a": "1", "b": "2", "c": "3"}
    far, near, as_near = {"a": "0", "b": "0", "c": "0"}, {"a": "1", "b": "2", "c": "0"}, {"a": "1", "b": "0", "c": "3"}
    assert nearest(now, [far, near, as_near]) is near
    assert nearest(now, []) is None
