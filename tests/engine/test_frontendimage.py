"""Frontends that are images, run by `# syntax=` and by BUILDKIT_SYNTAX: one of our own, well-behaved and not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Knarr
from tests.engine.frontends.image import make_context

pytestmark = [pytest.mark.root, pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def frontend(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the frontend's image in the registry."""
    work = tmp_path_factory.mktemp("frontend")
    (work / "context").mkdir()
    make_context(work / "context")
    name = f"{bases.address}/tests/frontend:1"
    Knarr(work / "state", bases.hosts_dir, work).run("build", "--tag", name, "--push", "context")
    return name


@pytest.fixture
def knarr(frontend: str, bases: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Knarr:
    """The command on a state that has unpacked the frontend before."""
    return Knarr(tmp_path_factory.getbasetemp() / "frontend-state", bases.hosts_dir, tmp_path)


def definition(frontend: str, word: str, *lines: str) -> str:
    return "\n".join((f"# syntax={frontend} {word}", *lines, ""))


def refusal(knarr: Knarr, frontend: str, word: str, *options: str) -> str:
    """What standard error ends with when the build fails."""
    done = knarr.run(*knarr.command(definition(frontend, word, "FROM scratch"), *options), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr.rpartition("error: ")[2]
    return done.stderr


def test_an_image_reads_a_language_of_its_own(knarr: Knarr, frontend: str) -> None:
    image = knarr.build(
        definition(frontend, "good", "from docker.io/library/busybox:latest", "file /f hello", "run cat /f /f > /g")
    )
    assert image.contents["g"] == b"hellohello"
    assert image.config["config"]["Cmd"] == ["sh"]
    assert image.config["config"]["Env"][0] == "MADE_BY=a frontend"
    assert len(image.config["rootfs"]["diff_ids"]) == len(image.manifest["layers"]) == 3


def test_the_steps_of_a_frontend_hit_the_cache_the_second_time(knarr: Knarr, frontend: str) -> None:
    text = definition(frontend, "good", "from docker.io/library/busybox:latest", "run date +%N > /t")
    first, second = knarr.build(text), knarr.build(text)
    assert first.contents["t"] == second.contents["t"]


MADE = ("from docker.io/library/busybox:latest", "run cat /proc/sys/kernel/random/uuid > /t")


@pytest.fixture
def another(frontend: str, bases: Any, tmp_path: Path) -> Knarr:
    """A machine that has built nothing."""
    (tmp_path / "another").mkdir()
    return Knarr(tmp_path / "another/state", bases.hosts_dir, tmp_path / "another")


def test_what_a_frontend_looks_at_is_taken_from_a_shared_cache(knarr: Knarr, another: Knarr, frontend: str) -> None:
    shared = knarr.work / "shared"
    text = definition(frontend, "good", *MADE)
    made = knarr.build(text, "--no-cache", "--cache-to", f"type=local,dest={shared}").contents["t"]
    seen = another.build(definition(frontend, "made"), "--cache-from", f"type=local,src={shared}").contents["seen"]
    assert seen == made


def test_a_damaged_layer_of_a_shared_cache_is_made_when_a_frontend_looks(
    knarr: Knarr, another: Knarr, frontend: str
) -> None:
    shared = knarr.work / "shared"
    text = definition(frontend, "good", *MADE)
    made = knarr.build(text, "--no-cache", "--cache-to", f"type=local,dest={shared}")
    for layer in made.manifest["layers"]:
        (shared / "blobs" / layer["digest"].replace(":", "/")).write_bytes(bytes(layer["size"]))
    command = another.command(definition(frontend, "made"), "--cache-from", f"type=local,src={shared}")
    told = another.run(*command, "-o", f"{another.work}/tree").stderr
    assert "a layer of the cache" in told
    assert "the steps run instead" in told
    assert len((another.work / "tree/seen").read_bytes()) == 37
    assert (another.work / "tree/seen").read_bytes() != made.contents["t"]


def test_a_build_by_an_image_is_never_taken_for_unchanged(knarr: Knarr, frontend: str) -> None:
    command = knarr.command(definition(frontend, "good", "file /f hello"), "--tag", "made:1")
    told = [knarr.run(*command).stderr for _ in range(3)]
    assert "Unchanged since it was last built" not in told[-1]


def test_the_build_argument_names_the_frontend_before_the_file_does(knarr: Knarr, frontend: str) -> None:
    image = knarr.build("file /f hello\n", f"--build-arg=BUILDKIT_SYNTAX={frontend} good")
    assert image.contents == {"f": b"hello"}


def test_the_built_in_frontend_can_be_forced(knarr: Knarr, frontend: str) -> None:
    text = definition(frontend, "crashes", "FROM scratch", "COPY f /")
    (knarr.work / "context").mkdir()
    (knarr.work / "context/f").write_text("f")
    assert knarr.build(text, "--build-arg=BUILDKIT_SYNTAX=dockerfile.v0").contents == {"f": b"f"}


def test_a_frontend_sees_what_is_lent_and_nothing_else(knarr: Knarr, frontend: str, tmp_path: Path) -> None:
    context = tmp_path / "lent"
    (context / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.md", "sub/c"):
        (context / name).write_text(name)
    os.symlink("/etc/debian_version", context / "link")
    seen = json.loads(knarr.build(definition(frontend, "looks"), context=context).contents["seen"])
    assert seen["context"] == ["a.txt", "b.md", "link", "sub"]
    assert seen["texts"] == ["a.txt"]
    assert seen["busybox"] == ["busybox", 0o755, True]
    assert seen["magic"] == "ELF"
    assert [text for text in seen["outside"] if "no such file or directory" not in text] == []
    assert 'process "false" did not complete successfully: exit code: 1' in seen["failed"]


def test_a_frontend_runs_processes_in_a_container(knarr: Knarr, frontend: str, tmp_path: Path) -> None:
    context = tmp_path / "lent"
    context.mkdir()
    (context / "a.txt").write_text("a.txt")
    seen = json.loads(knarr.build(definition(frontend, "execs"), context=context).contents["seen"])
    assert seen["main"]["1"] == "inside\ntyped text\na.txt"
    assert seen["main"]["exit"] == [137, "exit code: 137"]
    assert seen["main"]["order"] == ["Started", "File", "File", "Exit", "Done"]
    assert seen["second"]["1"] == "typed text\n1\n"
    assert seen["second"]["2"] == "err\n"
    assert seen["second"]["exit"] == [3, "exit code: 3"]
    assert "34 98\r\na terminal\r\nxterm\r\n" in seen["terminal"]["1"]
    assert seen["terminal"]["exit"][0] == 4
    assert (seen["written"], seen["entries"], seen["mode"]) == ("typed text\n", ["a.txt"], 0o644)
    assert "first process has ended" in seen["late"]
    assert not seen["base"]


def test_a_container_that_a_frontend_leaves_behind_is_ended(knarr: Knarr, frontend: str) -> None:
    assert knarr.build(definition(frontend, "leaves_a_container")).contents == {"f": b""}
    assert list((knarr.root / "run/bundles").glob("*/*")) == []
    assert list((knarr.root / "run/mnt").glob("*")) == []


def test_what_a_frontend_says_is_wrong_is_shown_with_its_place(knarr: Knarr, frontend: str) -> None:
    told = refusal(knarr, frontend, "wrong")
    assert "Dockerfile:2\n  1 |     one\n  2 | >>> two\n  3 |     three\nerror: the second line is nonsense\n" in told
    assert "panic" not in told


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("crashes", "failed: exit code: 1"),
        ("gives_nothing", "ended without an answer"),
        ("unknown_ref", "failed: exit code: 1"),
        ("nosuchword", "failed: exit code: 1"),
        ("bad_config", "an image config has a member of the wrong type"),
        ("several", "results and platforms do not agree on linux/arm64"),
    ],
)
def test_a_frontend_that_does_not_do_its_work_is_named_with_its_line(
    knarr: Knarr, frontend: str, word: str, message: str
) -> None:
    told = refusal(knarr, frontend, word)
    assert message in told
    assert frontend in told
    assert "  1 | >>> # syntax=" in told


def test_the_last_words_of_a_frontend_are_shown(knarr: Knarr, frontend: str) -> None:
    assert "it cannot go on" in refusal(knarr, frontend, "crashes")
    assert "no such ref: nosuchref" in refusal(knarr, frontend, "unknown_ref")
    assert "these bytes are not an LLB definition" in refusal(knarr, frontend, "bad_definition")


def test_an_image_that_does_not_speak_the_protocol_is_stopped(knarr: Knarr, frontend: str, bases: Any) -> None:
    name = f"{bases.address}/tests/garbage:1"
    (knarr.work / "context").mkdir()
    knarr.run(*knarr.command(f"FROM {frontend}\nENV GARBAGE=1\n", "--tag", name, "--push"))
    assert "cannot be used: it does not speak gRPC" in refusal(knarr, name, "x")


def test_an_image_that_is_no_frontend_is_refused_as_such(knarr: Knarr) -> None:
    told = refusal(knarr, "docker.io/library/busybox:latest", "x")
    assert "error: frontend docker.io/library/busybox:latest cannot be used" in told
    assert "hint: is this the image of a frontend?" in told
    assert "  1 | >>> # syntax=" in told


def test_a_frontend_image_that_is_not_there_is_told_with_its_line(knarr: Knarr, bases: Any) -> None:
    told = refusal(knarr, f"{bases.address}/no/such:1", "x")
    assert "  1 | >>> # syntax=" in told
    assert "/no/such:1" in told


@pytest.mark.parametrize("word", ["hangs", "waits"])
def test_a_frontend_that_hangs_ends_with_the_build(knarr: Knarr, frontend: str, word: str) -> None:
    command = knarr.command(definition(frontend, word), "--output", "type=cacheonly")
    build = subprocess.Popen(
        [sys.executable, "-m", "knarr", *command], env=knarr.env, cwd=knarr.work, stderr=subprocess.PIPE, text=True
    )
    bundles = knarr.root / "run/bundles"
    wanted = 2 if word == "hangs" else 1  # containers: the frontend, and the step it asked for
    while len(list(bundles.glob("*/*/pid"))) < wanted:
        assert build.poll() is None
        time.sleep(0.05)
    build.send_signal(signal.SIGINT)
    _, told = build.communicate(timeout=60)
    assert build.returncode == 130
    assert "Traceback" not in told
    assert list(bundles.glob("*/*")) == []
    assert list((knarr.root / "run/frontends").glob("*")) == [knarr.root / "run/frontends/owners"]


def asked(knarr: Knarr, frontend: str, call: str, *lines: str) -> subprocess.CompletedProcess[str]:
    return knarr.run(
        *knarr.command(definition(frontend, "answers", *lines), f"--call={call}", "--target=t"), check=False
    )


def test_an_image_answers_questions_about_its_file(knarr: Knarr, frontend: str) -> None:
    outline, targets = (asked(knarr, frontend, call) for call in ("outline", "targets,format=json"))
    assert outline.stdout == 'told: {"asked": "frontend.outline", "target": "t"}\n'
    assert json.loads(targets.stdout) == {"asked": "frontend.targets", "target": "t"}
    assert (outline.returncode, targets.returncode) == (0, 0)


def test_what_an_image_finds_in_a_check_decides_the_exit_status(knarr: Knarr, frontend: str) -> None:
    found, ignored = (asked(knarr, frontend, call) for call in ("check", "check,ignorestatus=true"))
    assert found.stdout.startswith("Check complete, 1 warning has been found!\ntold: ")
    assert (found.returncode, ignored.returncode) == (1, 0)
    bad = asked(knarr, frontend, "check,format=json", "bad")
    assert (bad.returncode, json.loads(bad.stdout)["warnings"][1]) == (1, {"ruleName": "bad"})
    assert "cannot be built" in bad.stderr


def test_an_answer_of_an_image_that_is_none(knarr: Knarr, frontend: str) -> None:
    broken = asked(knarr, frontend, "check", "broken")
    assert (broken.returncode, "the frontend's check makes no sense" in broken.stderr) == (1, True)
    silent = knarr.run(*knarr.command(definition(frontend, "good", "file /f f"), "--call=outline"), check=False)
    assert (silent.returncode, "the frontend said nothing to outline" in silent.stderr) == (1, True)
