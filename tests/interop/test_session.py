"""The session of docs/guide/session.md, run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

PAGE = Path(__file__).parents[2] / "docs/guide/session.md"
_UP_S = 60.0


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command, and the lines that are shown of its output."""
    for block in blocks("console"):
        for part in block.removeprefix("$ ").split("\n$ "):
            lines = part.splitlines()
            count = next(number for number, line in enumerate(lines, 1) if not line.endswith("\\"))
            yield "\n".join(lines[:count]), lines[count:]


def shows(output: str, expected: list[str]) -> bool:
    """Whether the lines of `expected` stand in `output` in this order; others may be between them."""
    lines = iter(output.splitlines())
    patterns = [re.escape(line.strip()).replace("…", ".*").replace(r"\ ", r"\s*") for line in expected]
    return all(any(re.fullmatch(pattern, line.strip()) for line in lines) for pattern in patterns)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_it_goes_as_it_is_told(bases: Any, buildx_program: str, tmp_path: Path) -> None:
    ports = {"1234": free_port(), "5000": free_port()}
    (programs := tmp_path / "bin").mkdir()
    for name, words in (("knarr", f"{sys.executable} -m knarr"), ("docker", 'shift; exec "$BUILDX"')):
        text = f'#!/bin/sh\n{words if name == "docker" else "exec " + words} "$@"\n'
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (work := tmp_path / "work").mkdir()
    (work / "Dockerfile").write_text(blocks("dockerfile")[0])
    (work / "docker-bake.json").write_text(blocks("json")[0].replace(":5000/", f":{ports['5000']}/"))
    environ = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "BUILDX": buildx_program,
        "BUILDX_CONFIG": str(tmp_path / "buildx"),
        "BUILDX_BAKE_ENTITLEMENTS_FS": "0",  # newer ones ask for leave to write beside the file
        "KNARR_HOSTS_DIR": str(bases.hosts_dir),
        "KNARR_PKI": str(work / "pki"),
    }
    served: list[subprocess.Popen[bytes]] = []
    try:
        for command, expected in commands():
            for told, port in ports.items():
                command = re.sub(rf"\b{told}\b", port, command)
                expected = [re.sub(rf"\b{told}\b", port, line) for line in expected]
            if command.endswith(" &"):
                served.append(serve(command.removesuffix(" &"), expected, work, environ))
                continue
            done = subprocess.run(
                ["bash", "-c", command], cwd=work, env=environ, capture_output=True, text=True, timeout=180, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            assert shows(done.stdout + done.stderr, expected), f"{command}\n{done.stdout}{done.stderr}"
    finally:
        for process in served:
            process.terminate()
            assert process.wait(60) == 0


def serve(command: str, expected: list[str], work: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start what goes on in the background, and wait until it has said what is shown."""
    log = work.parent / "served.log"
    words = shlex.split(os.path.expandvars(command.replace("\\\n", "").replace("$PWD", str(work))))
    with log.open("wb") as out:
        process = subprocess.Popen(words, cwd=work, env=environ, stdout=out, stderr=out)
    deadline = time.monotonic() + _UP_S
    while not shows(log.read_text(), expected):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return process
