from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knarr.owner import Owner, owned_directory

CLAIM = """
import sys
from pathlib import Path
from knarr.owner import Owner, owned_directory
print(Owner.claim(Path(sys.argv[1])).token, flush=True)
sys.stdin.read()
"""


def test_a_claim_lasts_until_its_process_dies(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", CLAIM, tmp_path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        token = process.stdout.readline().strip()
        assert Owner.dead(tmp_path) == []
        process.kill()
    assert Owner.dead(tmp_path) == [token]
    Owner.forget(tmp_path, token)
    assert Owner.dead(tmp_path) == []


def test_ones_own_claim_is_alive_until_released(tmp_path: Path) -> None:
    owner = Owner.claim(tmp_path)
    assert Owner.dead(tmp_path) == []
    owner.release()
    assert Owner.dead(tmp_path) == [owner.token]


def test_what_a_child_was_given_does_not_keep_a_claim(tmp_path: Path) -> None:
    owner = Owner.claim(tmp_path)
    with subprocess.Popen(["/bin/sleep", "60"], close_fds=False) as process:
        try:
            owner.release()
            # The kernel lets the parent go on a moment before it closes the child's descriptors.
            deadline = time.monotonic() + 10
            while Owner.dead(tmp_path) != [owner.token] and time.monotonic() < deadline:
                time.sleep(0.01)
            assert Owner.dead(tmp_path) == [owner.token]
        finally:
            process.kill()


def test_nobody_is_dead_where_nobody_was(tmp_path: Path) -> None:
    assert Owner.dead(tmp_path / "none") == []
    Owner.forget(tmp_path, "nobody")


def test_a_forked_child_knows_that_the_claim_is_not_its_own(tmp_path: Path) -> None:
    owner = Owner.claim(tmp_path)
    pid = os.fork()
    if not pid:
        os._exit(1 if owner.is_ours else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert owner.is_ours


def test_an_owned_directory_goes_with_its_block(tmp_path: Path) -> None:
    with owned_directory(tmp_path / "here") as mine, owned_directory(tmp_path / "here") as other:
        (mine / "file").write_text("")
        assert mine != other
        assert mine.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "here").rglob("*")] == ["owners"]


def test_the_directory_of_who_was_killed_goes_with_the_next(tmp_path: Path) -> None:
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        with owned_directory(tmp_path) as mine:
            (mine / "left").write_text("")
            os.write(told, mine.name.encode())
            time.sleep(60)
    name = os.read(ready, 100).decode()
    with owned_directory(tmp_path):
        assert (tmp_path / name / "left").exists()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with owned_directory(tmp_path):
        assert not (tmp_path / name).exists()
    os.close(ready)
    os.close(told)


def test_a_draft_of_a_killed_process_goes_when_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".old", tmp_path / ".young"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 3600,) * 2)
    assert Owner.dead(tmp_path) == []
    assert os.listdir(tmp_path) == [young.name]


def test_without_nameless_files_a_claim_is_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "link", refused)
    owner = Owner.claim(tmp_path)
    assert os.listdir(tmp_path) == [owner.token]
    assert Owner.dead(tmp_path) == []
    owner.release()
    assert Owner.dead(tmp_path) == [owner.token]
