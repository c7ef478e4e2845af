"""Dockerfiles and contexts that cannot be built: what a person is shown, and that nothing is left of the attempt."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.engine.aftermath import assert_nothing_left, running, using
from tests.engine.publish import busybox, publish
from tests.remote.fakeregistry import FakeRegistry

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "sub").mkdir(parents=True)
    (root / "app.py").write_text("app\n")
    (root / "requirements.txt").write_text("none\n")
    (root / "sub/file").write_text("file\n")
    (root / "secret.key").write_text("secret\n")
    (root / ".dockerignore").write_text("# not for images\n\n*.key\n")
    (root / "shadow").symlink_to("/etc/shadow")
    (root / "above").symlink_to("../../../../../../../../etc/shadow")
    return root


def refused(knarr: Knarr, dockerfile: str, *options: str, context: Path | None = None, status: int = 1) -> list[str]:
    """Build, which must fail with one error; the lines from the place on, without the Dockerfile's directory."""
    done = knarr.run(*knarr.command(dockerfile, *options, context=context), check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\nerror: ") + done.stderr.startswith("error: ") == 1
    assert_nothing_left(knarr)
    lines: list[str] = done.stderr.replace(f"{knarr.work}/", "").splitlines()
    place = next((i for i, line in enumerate(lines) if line.startswith("Dockerfile.test:")), None)
    return lines[lines.index(next(line for line in lines if line.startswith("error: "))) if place is None else place :]


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("COPPY a b", "unknown instruction: COPPY", "did you mean COPY?"),
        ("COPY --chwon=1 app.py /", "unknown flag: --chwon", "did you mean chown?"),
        ("RUN --mout=type=cache,target=/x true", "unknown flag: --mout", "did you mean mount?"),
        ("RUN --mount=type=cache,targt=/x true", "unexpected key 'targt' in 'targt=/x'", "did you mean target?"),
        ("COPY aap.py /", "aap.py: not in the build context", "the build context has app.py"),
        (
            "COPY $DIR/app/main.py /",
            "app/main.py: not in the build context",
            "$DIR has no value here: give it one with ARG or ENV in this stage, above this line",
        ),
        ("COPY sub/fil /", "sub/fil: not in the build context", "the build context has sub/file"),
        ("COPY secret.key /", "secret.key: not in the build context", ".dockerignore:3 leaves it out: *.key"),
        (
            "COPY ../outside /",
            "outside: not in the build context",
            "`..` does not lead out of the build context: choose a wider one, or add one with --build-context",
        ),
        ("COPY shadow /", "shadow: a symlink to /etc/shadow, which is not in the build context", ""),
        (
            "COPY above /",
            "above: a symlink to ../../../../../../../../etc/shadow, which is not in the build context",
            "",
        ),
        ("COPY --from=busybox /bin/bsybox /", "bin/bsybox: not in the image", "the image has bin/busybox"),
        ("RUN --mount=source=nowhere,target=/x true", "nowhere: not in the build context", ""),
        (
            "RUN --mount=type=secret,id=tok,required=true true",
            "secret tok: not found",
            "pass --secret id=tok,src=FILE or id=tok,env=VARIABLE",
        ),
    ],
)
def test_a_line_that_cannot_be_meant(knarr: Knarr, context: Path, line: str, error: str, hint: str) -> None:
    shown = refused(knarr, f"FROM busybox\n{line}\nRUN never\n", context=context)
    expected = ["Dockerfile.test:2", "  1 |     FROM busybox", f"  2 | >>> {line}", "  3 |     RUN never"]
    assert shown[:4] == expected
    stage = " (stage stage-0)" if shown[4].endswith(" (stage stage-0)") else ""
    assert shown[4:] == [f"error: {error}{stage}", *([f"hint: {hint}"] if hint else [])]


def test_a_missing_source_shows_as_a_failed_step(knarr: Knarr, context: Path) -> None:
    done = knarr.run(*knarr.command("FROM busybox\nCOPY aap.py /\n", context=context), check=False)
    name = next(line for line in done.stderr.splitlines() if line.endswith("[2/2] COPY aap.py /"))
    assert f"{name.split()[0]} ERROR: aap.py: not in the build context" in done.stderr.splitlines()


def test_links_that_lead_out_are_copied_as_links(knarr: Knarr, context: Path) -> None:
    image = knarr.build("FROM busybox\nCOPY . /c/\n", context=context)
    assert image.files["c/shadow"].linkname == "/etc/shadow"
    assert image.files["c/above"].linkname == "../../../../../../../../etc/shadow"
    assert "c/secret.key" not in image.files


def test_a_destination_that_leads_out_stays_inside(knarr: Knarr, context: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    image = knarr.build(
        f"FROM busybox\nRUN ln -s {outside} /l\nCOPY app.py ../../../../..{outside}1\n"
        f"COPY app.py /l2/../../..{outside}2\nCOPY app.py /l\n",
        context=context,
    )
    assert image.contents[f"{outside}1".lstrip("/")] == image.contents[f"{outside}2".lstrip("/")] == b"app\n"
    assert not list(tmp_path.glob("outside*"))


@pytest.mark.parametrize(
    ("dockerfile", "error"),
    [
        ("", "error: file with no instructions"),
        ("# only\n# comments\n", "error: file with no instructions"),
        ("FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /x /\n", "circular dependency"),
        ("FROM busybox AS a\nCOPY --from=a /x /\n", "circular dependency"),
        ("FROM nosuch:v1\n", "docker.io/library/nosuch:v1: not found"),
        ("RUN true\n", "no build stage"),
    ],
)
def test_a_file_that_cannot_be_meant(knarr: Knarr, dockerfile: str, error: str) -> None:
    assert error in "\n".join(refused(knarr, dockerfile))


def test_files_and_directories_that_are_not_there(knarr: Knarr, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    for argv, error in (
        (["context"], "context/Dockerfile: No such file or directory"),
        (["-f", "none", "context"], "none: No such file or directory"),
        (["nowhere"], "nowhere: no such directory for the build context"),
        ([], "no build context given"),
        (["--platfrom", "x", "context"], "unknown flag: --platfrom"),
        (["--platform", "linux/a/b/c/d", "context"], "'linux/a/b/c/d' is not a platform"),
    ):
        done = knarr.run("build", *argv, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {error}")


def test_a_binary_file_is_not_shown(knarr: Knarr, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    done = knarr.run("build", "-f", "/bin/true", str(tmp_path / "context"), check=False)
    assert done.returncode == 1
    assert "error: a binary file, not a Dockerfile" in done.stderr
    assert len(done.stderr) < 500


# Steps


def test_a_step_that_fails_shows_its_last_output(knarr: Knarr) -> None:
    shown = refused(
        knarr,
        "FROM busybox AS base\nRUN true\nFROM base AS work\n"
        "RUN for i in 1 2; do echo line $i; done; \\\n  exit 7\nRUN never\n",
        "--target=work",
    )
    assert shown[:5] == [
        "Dockerfile.test:4",
        "  2 |     RUN true",
        "  3 |     FROM base AS work",
        "  4 | >>> RUN for i in 1 2; do echo line $i; done; \\",
        "  5 | >>>   exit 7",
    ]
    assert shown[-5:-1] == [
        " > [work 1/2] RUN for i in 1 2; do echo line $i; done;   exit 7:",
        "line 1",
        "line 2",
        "------",
    ]
    assert shown[-1].endswith("did not complete successfully: exit code: 7 (stage work)")


def test_a_step_that_fails_on_one_of_two_platforms_names_it(knarr: Knarr) -> None:
    shown = refused(
        knarr,
        "FROM busybox\nRUN test $(uname -m) = x86_64 || exit 3\n",
        "--platform=linux/amd64,linux/arm64",
    )
    assert shown[-1].endswith("exit code: 3 (platform linux/arm64)")


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("RUN nosuchcommand", "exit code: 127", "is it installed in this stage, and on PATH?"),
        ('RUN ["nosuch", "a"]', "nosuch", "the image has no nosuch"),
        ('RUN ["/etc/passwd"]', "ermission denied", "is not executable"),
        ("RUN sh -c 'kill -9 $$'; exit $?", "exit code: 137", "SIGKILL"),
        ("USER nobdy\nRUN true", "user nobdy: not in the image's /etc/passwd", "create it in an earlier RUN"),
    ],
)
def test_a_step_that_cannot_run(knarr: Knarr, line: str, said: str, hint: str) -> None:
    shown = "\n".join(refused(knarr, f"FROM busybox\n{line}\n"))
    assert said in shown
    assert hint in shown[shown.index("hint: ") :]


def test_a_run_without_a_shell(knarr: Knarr) -> None:
    shown = "\n".join(refused(knarr, "FROM scratch\nRUN echo hi\n"))
    assert "/bin/sh" in shown
    assert "which scratch has not" in shown


def test_a_step_that_is_killed_from_outside(knarr: Knarr) -> None:
    with running(knarr, *knarr.command("FROM busybox\nRUN echo begun; sleep 300\n")) as build:
        build.wait_for(" begun\n")
        (pid,) = [pid for pid, command in using(knarr.root).items() if command.startswith("sleep 300")]
        os.kill(pid, signal.SIGKILL)
        assert build.wait() == 1
        assert "exit code: 137" in build.output()
        assert "it was killed (SIGKILL)" in build.output()
    assert_nothing_left(knarr)


def test_a_platform_without_an_emulator(knarr: Knarr, busybox_layout: Path) -> None:
    with FakeRegistry() as far:
        publish(far, "app", [busybox(busybox_layout)], architecture="sparc64")
        shown = refused(knarr, f"FROM {far.host}/app\nRUN true\n", "--platform=linux/sparc64")
        assert shown[0] == "Dockerfile.test:2"
        assert "steps for linux/sparc64 cannot run here: there is no emulator for it" in shown[-2]
        assert shown[-1].startswith("hint: run them on a machine of that platform")
