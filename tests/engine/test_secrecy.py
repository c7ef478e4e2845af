"""Secrets are where they are wanted and nowhere else: not in what is built, kept, told, or listed."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ops.servers import Work, git_server
from tests.ops.sshserver import make_key

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

FILE, VARIABLE, TOKEN = "s3cret-in-a-file", "s3cret-in-a-variable", "s3cret-token"
STEP = "RUN --mount=type=secret,id=file,required --mount=type=secret,id=var,env=VAR --mount=type=ssh "


@pytest.fixture
def lent(knarr: Knarr, tmp_path: Path) -> list[str]:
    (tmp_path / "secret").write_text(FILE)
    key = make_key(tmp_path / "key")
    knarr.env["LENT"] = VARIABLE
    return [f"--secret=id=file,src={tmp_path / 'secret'}", "--secret=id=var,env=LENT", f"--ssh=default={key}"]


def words(tmp_path: Path) -> list[bytes]:
    key = (tmp_path / "key").read_bytes().splitlines() if (tmp_path / "key").exists() else []
    return [FILE.encode(), VARIABLE.encode(), TOKEN.encode(), *key[1:3]]


def found_in(data: bytes, tmp_path: Path) -> list[bytes]:
    return [word for word in words(tmp_path) if word in data]


def files_below(root: Path) -> Iterator[tuple[Path, bytes]]:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            yield path, data
            if data[:2] == b"\x1f\x8b":
                yield path, gzip.decompress(data)


def test_nothing_of_a_secret_stays(knarr: Knarr, lent: list[str], tmp_path: Path) -> None:
    used = f'FROM busybox\n{STEP} test -s /run/secrets/file && test -n "$VAR" && test -S $SSH_AUTH_SOCK\n'
    fails = used + f"{STEP} exit 3\n"
    out = tmp_path / "out.tar"
    told = ""
    for mode in ("plain", "rawjson"):
        for text in (used, fails):
            command = [*knarr.command(text, *lent, f"--progress={mode}", "--no-cache")]
            done = knarr.run(*command, "-t", "app", "-o", f"type=oci,dest={out}", check=text is used)
            told += done.stdout + done.stderr
    told += knarr.run("debug", "why", "RUN").stdout + knarr.run("history", "app", check=False).stdout
    assert found_in(told.encode(), tmp_path) == []
    assert "--mount=type=secret,id=var,env=VAR" in told
    kept = [path for path, data in files_below(knarr.root) if found_in(data, tmp_path)]
    assert kept == []
    assert found_in(out.read_bytes(), tmp_path) == []


def test_a_step_that_gives_a_secret_away_is_seen_by_the_test_above(
    knarr: Knarr, lent: list[str], tmp_path: Path
) -> None:
    text = f"FROM busybox\n{STEP} cp /run/secrets/file /leak; echo $VAR\n"
    done = knarr.run(*knarr.command(text, *lent), "-t", "app")
    assert VARIABLE.encode() in found_in(done.stderr.encode(), tmp_path)
    assert FILE.encode() in [word for _, data in files_below(knarr.root) for word in found_in(data, tmp_path)]


def test_a_list_of_processes_shows_no_secret(knarr: Knarr, lent: list[str], tmp_path: Path) -> None:
    command = knarr.command(f"FROM busybox\n{STEP} sleep 0004\n", *lent)
    with subprocess.Popen(
        [sys.executable, "-m", "knarr", *command], env=knarr.env, cwd=knarr.work, stderr=subprocess.PIPE
    ) as build:
        lists = b""
        while build.poll() is None and b"sleep 0004" not in lists:
            lists = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, check=True).stdout
            time.sleep(0.05)
        build.communicate()
    assert build.returncode == 0
    assert b"sleep 0004" in lists
    assert found_in(lists, tmp_path) == []


def test_no_other_user_can_read_a_variable_while_the_step_runs(knarr: Knarr, lent: list[str], tmp_path: Path) -> None:
    command = knarr.command(f"FROM busybox\n{STEP} echo ready; sleep 3\n", *lent)
    with subprocess.Popen(
        [sys.executable, "-m", "knarr", *command], env=knarr.env, cwd=knarr.work, stderr=subprocess.PIPE
    ) as build:
        assert build.stderr is not None
        for line in build.stderr:
            if line.endswith(b" ready\n"):
                break
        open_to_all = [
            path
            for path, data in files_below(knarr.root)
            if VARIABLE.encode() in data and path.stat().st_mode & 0o044 and reachable(knarr.root, path)
        ]
        build.communicate()
    assert build.returncode == 0
    assert open_to_all == []


def reachable(root: Path, path: Path) -> bool:
    """Whether another user may go through all directories on the way."""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents if parent.is_relative_to(root))


def test_the_login_of_a_repository_is_kept_nowhere(knarr: Knarr, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "token").write_text(TOKEN)
    with git_server(tmp_path / "served") as server:
        work = Work(tmp_path / "work", server, "app")
        work.commit({"a": "a\n"})
        server.login = "basic eC1hY2Nlc3MtdG9rZW46czNjcmV0LXRva2Vu"  # x-access-token:s3cret-token
        text = f"FROM scratch\nADD --keep-git-dir {work.url} /\n"
        done = knarr.run(*knarr.command(text, f"--secret=id=GIT_AUTH_TOKEN,src={tmp_path / 'token'}"))
        server.login = "basic other"
        text = f"FROM scratch\nADD {work.url}#other /\n"
        refused = knarr.run(*knarr.command(text, f"--secret=id=GIT_AUTH_TOKEN,src={tmp_path / 'token'}"), check=False)
    assert refused.returncode == 1
    encoded = b"eC1hY2Nlc3MtdG9rZW46czNjcmV0LXRva2Vu"
    for data in [(done.stderr + refused.stderr).encode(), *(data for _, data in files_below(knarr.root))]:
        assert found_in(data, tmp_path) == []
        assert encoded not in data


def test_a_value_is_no_part_of_a_key(knarr: Knarr, lent: list[str], tmp_path: Path) -> None:
    command = knarr.command(f"FROM busybox\n{STEP} true\n", *lent)
    knarr.run(*command)
    before = keys(knarr)
    (tmp_path / "secret").write_text("another")
    knarr.env["LENT"] = "another"
    assert "CACHED" in knarr.run(*command).stderr
    assert keys(knarr) == before


def keys(knarr: Knarr) -> list[Any]:
    import sqlite3

    with sqlite3.connect(knarr.root / "cache.db") as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        found = [row for table in tables for row in database.execute(f"select * from {table}") if "key" in table]
    return sorted(json.dumps(row, default=str) for row in found)
