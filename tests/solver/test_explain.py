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
from knarr.solver.explain import (
    Input,
    called,
    explain,
    ingredients,
    is_edited,
    nearest,
    place_of,
    steps_that_differ,
)
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
        (step(env=("PATH=/bin", "MODE=release")), "ENV or ARG MODE changed: debug → release"),
        (step(env=(*META.env, "CI=")), "ENV or ARG CI is new: "),
        (step(env=("PATH=/bin",)), "ENV or ARG MODE is gone"),
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


def compare(now: Input, then: Input) -> list[str]:
    return explain(of(STEP, now), of(STEP, then), [now])


def test_another_base_image() -> None:
    then, now = (Input("image debian", identity, is_base=True) for identity in ("layer:sha256:1", "layer:sha256:2"))
    assert compare(now, then) == ["image debian changed"]


def test_another_result_of_the_step_before_whatever_that_was_called_then() -> None:
    then = Input("RUN one", "1", step="[2/4] RUN one", is_base=True)
    now = Input("RUN two", "2", step="[2/3] RUN two", is_base=True)
    assert compare(now, then) == ["the step before gave another result: RUN two"]
    assert compare(now, replace(then, identity="2")) == []


def test_another_stage() -> None:
    then, now = (Input("stage build", identity, step="[build 2/2] RUN x") for identity in ("1", "2"))
    assert compare(now, then) == ["stage build gave another result"]


def test_a_change_below_what_is_listed_is_told_all_the_same() -> None:
    assert compare(Input("stage build", content="1"), Input("stage build", content="2")) == [
        "stage build: what is read of it changed"
    ]


def test_the_steps_that_made_the_difference() -> None:
    base = Input("RUN a", "1", step="[2/3] RUN a", is_base=True)
    stage = Input("stage build", content="1", step="[build 2/2] RUN b")
    context = Input("build context", content="1")
    now, then = of(STEP, base, stage, context), of(STEP, base, replace(stage, content="2"), context)
    assert steps_that_differ(now, then, [base, stage, context]) == ["[build 2/2] RUN b"]
    assert steps_that_differ(now, None, [base, stage, context]) == []


@pytest.mark.parametrize(
    ("step", "place"),
    [
        ("[2/3] RUN make", ("", "", "RUN make")),
        ("[ 2/13] RUN make", ("", "", "RUN make")),
        ("[build  2/13] RUN make", ("", "build", "RUN make")),
        ("[linux/arm64 build 2/3] RUN make", ("linux/arm64", "build", "RUN make")),
        ("[linux/amd64->arm64 build 2/3] RUN [1/1] x", ("linux/amd64->arm64", "build", "RUN [1/1] x")),
        ("[internal] load build context", ("", "", "[internal] load build context")),
    ],
)
def test_the_name_of_a_step_says_where_it_is(step: str, place: tuple[str, str, str]) -> None:
    assert place_of(step) == place


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("docker-image://docker.io/library/busybox:1@sha256:00", "image busybox:1 (linux/amd64)"),
        ("docker-image://localhost:5000/a/b:1@sha256:00", "image localhost:5000/a/b:1 (linux/amd64)"),
        ("local://context", "build context"),
        ("local://docs", "build context docs"),
        ("https://example.com/a", "https://example.com/a"),
    ],
)
def test_what_comes_from_outside_is_called(identifier: str, name: str) -> None:
    vertex = Vertex(Digest.of(b"v"), SourceOp(identifier), (), Platform("linux", "amd64"))
    assert called(vertex, "whatever", is_base=True) == name


def test_what_a_step_made_is_called_by_the_step_or_by_its_stage() -> None:
    vertex = Vertex(Digest.of(b"v"), STEP, ())
    assert called(vertex, "[build 2/3] RUN make", is_base=True) == "RUN make (stage build)"
    assert called(vertex, "[build 2/3] RUN make", is_base=False) == "stage build"
    assert called(vertex, "[2/3] RUN make", is_base=False) == "RUN make"


@pytest.mark.parametrize(
    ("then", "now", "edited"),
    [
        ("/bin/sh -c make", "/bin/sh -c make -j2", True),
        ("/bin/sh -c make", "/bin/sh -c true", False),
        (
            "/bin/sh -c apt-get update && apt-get install -y a",
            "/bin/sh -c apt-get update && apt-get install -y b",
            True,
        ),
    ],
)
def test_an_edited_command_is_told_from_another_one(then: str, now: str, *, edited: bool) -> None:
    assert is_edited({"command": now}, {"command": then, "base": "x"}) is edited


def test_a_long_value_is_shown_from_where_it_differs() -> None:
    then, now = ("x" * 400 + end + "y" * 400 for end in ("1", "2"))
    (line,) = explain({"command": now}, {"command": then})
    assert len(line) < 300
    assert "xx1y" in line
    assert "xx2y" in line


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
    assert line.startswith("what it does changed: mkfile /f mode=0644 content=")


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
