"""The vectors of build.md §4, measured on a real buildkitd, against real builds of ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py


def test_workdir_is_made_with_all_parents_and_belongs_to_the_user(knarr: Knarr) -> None:
    image = knarr.build("FROM busybox\nUSER 1234:1234\nWORKDIR /w/x\nWORKDIR rel\n")
    assert [image.mode(path) for path in ("w", "w/x", "w/x/rel")] == [(0o755, 1234, 1234)] * 3
    assert image.config["config"]["WorkingDir"] == "/w/x/rel"


def test_copy_makes_missing_parents_plain_and_gives_contents_of_directories(knarr: Knarr, context: Path) -> None:
    image = knarr.build("FROM busybox\nCOPY f d /nodir/p/\n", context=context)
    assert image.mode("nodir") == image.mode("nodir/p") == (0o755, 0, 0)
    assert image.mode("nodir/p/f") == (0o664, 0, 0)
    assert image.mode("nodir/p/sub") == (0o750, 0, 0)
    assert "nodir/p/d" not in image.files
    assert image.contents["nodir/p/sub/b"] == b"b\n"


def test_chmod_and_chown_also_apply_to_made_parents(knarr: Knarr, context: Path) -> None:
    image = knarr.build("FROM busybox\nCOPY --chmod=600 f /cm/q/f\nCOPY --chown=77:88 f /co/r/f\n", context=context)
    assert [image.mode(p) for p in ("cm", "cm/q", "cm/q/f")] == [(0o600, 0, 0)] * 3
    assert [image.mode(p) for p in ("co", "co/r")] == [(0o755, 77, 88)] * 2
    assert image.mode("co/r/f") == (0o664, 77, 88)


def test_a_symlink_named_as_source_is_followed(knarr: Knarr, context: Path) -> None:
    image = knarr.build("FROM busybox\nCOPY lnk /l/lnk\nCOPY dlnk /l/dl\n", context=context)
    assert image.files["l/lnk"].isreg()
    assert image.mode("l/lnk") == (0o664, 0, 0)
    assert image.files["l/dl"].isdir()
    assert image.contents["l/dl/a"] == b"a\n"


def test_add_unpacks_an_archive_by_its_content_and_keeps_its_owners(knarr: Knarr, context: Path) -> None:
    image = knarr.build(
        "FROM busybox\nADD a.tar /t/\nADD notatar.bin /n/\nADD a.tgz /z/\nADD --chown=9:9 a.tar /o/\n", context=context
    )
    assert image.mode("t") == image.mode("n") == image.mode("z") == (0o755, 0, 0)
    assert image.mode("t/member") == image.mode("n/member") == image.mode("z/member") == (0o640, 55, 66)
    assert image.mode("o")[1:] == (9, 9)
    assert image.mode("o/member") == (0o640, 9, 9)


def test_add_copies_an_empty_archive_as_a_file(knarr: Knarr, context: Path) -> None:
    image = knarr.build("FROM busybox\nADD empty.tar.gz /e/\n", context=context)
    assert image.mode("e/empty.tar.gz") == (0o644, 0, 0)
    assert image.contents["e/empty.tar.gz"] == b""


def test_a_wildcard_without_a_match_copies_nothing_and_makes_nothing(knarr: Knarr, context: Path) -> None:
    image = knarr.build("FROM busybox\nCOPY nope* /m/\n", context=context)
    assert "m" not in image.files


def test_volume_makes_no_directory(knarr: Knarr) -> None:
    image = knarr.build("FROM busybox\nVOLUME /vol/a\nRUN test ! -e /vol && touch /ok\n")
    assert "ok" in image.files
    assert "vol" not in image.files
    assert image.config["config"]["Volumes"] == {"/vol/a": {}}


def test_heredoc_copies(knarr: Knarr) -> None:
    image = knarr.build(
        'FROM busybox\nENV abc=val\nCOPY <<EOF /x\n$abc "q" \\$abc\nEOF\nCOPY <<-"EOF" /y\n\tt $abc\n\tEOF\n'
    )
    assert image.contents["x"] == b'val "q" $abc\n'
    assert image.mode("x") == (0o644, 0, 0)
    assert image.contents["y"] == b"t $abc\n"


def test_heredoc_runs(knarr: Knarr) -> None:
    image = knarr.build(
        "FROM busybox\nRUN <<EOF\nfalse\necho x > /x\nEOF\nRUN <<EOF\n#!/bin/sh\necho $0 > /zero\nEOF\n"
    )
    assert image.contents["x"] == b"x\n"
    assert image.contents["zero"] == b"/dev/pipes/EOF\n"


def test_one_instruction_sees_the_values_from_before_it(knarr: Knarr) -> None:
    image = knarr.build("FROM busybox\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n")
    env = dict(item.split("=", 1) for item in image.config["config"]["Env"])
    assert (env["abc"], env["def"], env["ghi"]) == ("bye", "hello", "bye")


def test_env_beats_arg_also_in_an_inheriting_stage_and_neither_leaks(knarr: Knarr) -> None:
    image = knarr.build(
        "FROM busybox AS a\nARG A=argA\nENV A=envA E=e\nRUN echo $A > /a\n"
        'FROM busybox AS b\nRUN echo "<$A$E>" > /b\n'
        "FROM a\nRUN echo $A > /c\nCOPY --from=b /b /b\n"
    )
    assert (image.contents["a"], image.contents["b"], image.contents["c"]) == (b"envA\n", b"<>\n", b"envA\n")


def test_the_environment_of_a_run(knarr: Knarr) -> None:
    image = knarr.build(
        "FROM busybox\nWORKDIR /w\nRUN env > /env; hostname > /host; umask > /umask; grep -E 'Cap|NoNew'"
        " /proc/self/status > /caps; df -k /dev/shm | tail -1 > /shm; cp /etc/hosts /hosts\n"
    )
    env = dict(line.split("=", 1) for line in image.contents["env"].decode().splitlines())
    assert env["HOME"] == "/root"
    assert env["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert env["PWD"] == "/w"
    assert image.contents["host"] == b"buildkitsandbox\n"
    assert image.contents["umask"] == b"0022\n"
    caps = dict(line.split(":\t") for line in image.contents["caps"].decode().splitlines())
    assert caps["CapEff"] == caps["CapBnd"] == "00000000a80425fb"
    assert caps["NoNewPrivs"] == "0"
    assert image.contents["shm"].split()[1] == b"65536"
    lines = image.contents["hosts"].decode().splitlines()
    assert lines[0].split() == ["127.0.0.1", "localhost", "buildkitsandbox"]
    assert len([line for line in lines if line.startswith("::1")]) == 1


def test_a_cache_mount_has_its_mode_and_owner_and_stays(knarr: Knarr) -> None:
    mount = "--mount=type=cache,target=/c,mode=0777,uid=5,gid=6"
    image = knarr.build(
        f"FROM busybox\nRUN {mount} stat -c '%a %u:%g' /c > /stat && echo kept > /c/file\n"
        f"RUN {mount} cat /c/file > /file\n"
    )
    assert image.contents["stat"] == b"777 5:6\n"
    assert image.contents["file"] == b"kept\n"
    assert "c" not in image.files


def test_a_tmpfs_mount_is_sticky_and_leaves_nothing(knarr: Knarr) -> None:
    image = knarr.build("FROM busybox\nRUN --mount=type=tmpfs,target=/t stat -c %a /t > /stat && touch /t/x\n")
    assert image.contents["stat"] == b"1777\n"
    assert "t" not in image.files


def test_secret_mounts(knarr: Knarr) -> None:
    (knarr.work / "s").write_text("sesame")
    image = knarr.build(
        "FROM busybox\n"
        "RUN --mount=type=secret,id=missing test ! -e /run/secrets/missing\n"
        "RUN --mount=type=secret,id=s stat -c '%a %u:%g' /run/secrets /run/secrets/s > /stat"
        " && cat /run/secrets/s | wc -c > /len\n"
        'RUN --mount=type=secret,id=s,env=TOKEN test "$TOKEN" = sesame && test ! -e /run/secrets/s\n',
        "--secret",
        f"id=s,src={knarr.work}/s",
    )
    assert image.contents["stat"] == b"755 0:0\n400 0:0\n"
    assert image.contents["len"].strip() == b"6"
    assert "run" not in image.files
    assert b"sesame" not in b"".join(image.contents.values())


def test_a_bind_mount_leaves_no_stub_at_any_level(knarr: Knarr, context: Path) -> None:
    image = knarr.build(
        "FROM busybox\nRUN --mount=type=bind,source=d,target=/new/deep/mnt cat /new/deep/mnt/a > /a\n"
        "RUN test ! -e /new && touch /gone\n",
        context=context,
    )
    assert image.contents["a"] == b"a\n"
    assert "gone" in image.files
    assert not [path for path in image.files if path.startswith("new")]


def test_link_replaces_a_symlinked_directory(knarr: Knarr, context: Path) -> None:
    image = knarr.build(
        "FROM busybox\nRUN mkdir /real && ln -s /real /lnk\nCOPY f /lnk/x\nCOPY --link f /lnk/y\n", context=context
    )
    assert image.files["lnk"].isdir()
    assert "real/x" in image.files
    assert image.mode("lnk/y") == (0o664, 0, 0)


def test_link_gives_an_existing_directory_plain_mode(knarr: Knarr, context: Path) -> None:
    image = knarr.build("FROM busybox\nRUN mkdir -m 1777 /s\nCOPY --link f /s/y\n", context=context)
    assert image.mode("s") == (0o755, 0, 0)


def test_link_cannot_know_names(knarr: Knarr, context: Path) -> None:
    argv = knarr.command("FROM busybox\nCOPY --link --chown=daemon f /f\n", context=context)
    done = knarr.run(*argv, check=False)
    assert done.returncode == 1
    assert "use numbers" in done.stderr
    assert "COPY --link" in done.stderr


@pytest.mark.parametrize("copy", ["COPY d/a d/ /multi", "COPY d /etc/hostname"])
def test_copy_refuses_what_cannot_hold_it(knarr: Knarr, context: Path, copy: str) -> None:
    done = knarr.run(*knarr.command(f"FROM busybox\n{copy}\n", context=context), check=False)
    assert done.returncode == 1
    assert ">>> COPY" in done.stderr
    assert str(knarr.root) not in done.stderr


def test_an_emulated_step_runs_parents_and_children(knarr: Knarr) -> None:
    before = os.listdir("/proc/sys/fs/binfmt_misc")
    image = knarr.build('FROM busybox\nRUN sh -c "busybox uname -m" > /m\n', "--platform", "linux/arm64")
    assert image.contents["m"] == b"aarch64\n"
    assert image.config["architecture"] == "arm64"
    assert os.listdir("/proc/sys/fs/binfmt_misc") == before


def test_two_platforms_make_an_index_in_the_order_asked(knarr: Knarr) -> None:
    images = knarr.build_all("FROM busybox\nRUN uname -m > /m\n", "--platform", "linux/arm64,linux/amd64")
    assert [image.contents["m"] for image in images] == [b"aarch64\n", b"x86_64\n"]
