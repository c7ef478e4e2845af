"""Containers by the command line: a state directory with busybox of both platforms, removed with all that ran in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Done = subprocess.CompletedProcess[str]
Knarr = Callable[..., Done]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def environment(root: Path, bases: Any) -> dict[str, str]:
    return {**os.environ, "KNARR_ROOT": str(root), "KNARR_HOSTS_DIR": str(bases.hosts_dir)}


@pytest.fixture(scope="module")
def knarr(environment: dict[str, str]) -> Iterator[Knarr]:
    """Runs `knarr WORDS`; nothing that runs outlives the module."""

    def call(*words: str, **more: Any) -> Done:
        settings = {"capture_output": True, "text": True, "timeout": 60, "stdin": subprocess.DEVNULL, **more}
        if "input" in settings:
            del settings["stdin"]
        return subprocess.run([sys.executable, "-m", "knarr", *words], env=environment, **settings)

    yield call
    left = call("ps", "-aq").stdout.split()
    if left:
        call("rm", "--force", "--volumes", *left)


@pytest.fixture(scope="module")
def app(knarr: Knarr, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with users, a volume with content, and a web server, for both platforms."""
    context = tmp_path_factory.mktemp("app")
    (context / "Dockerfile").write_text(
        "FROM busybox\n"
        "RUN mkdir -p /etc /www /data && uname -m > /www/index.html && echo first > /data/file && chown 1000:1001 /data"
        " && printf 'root:x:0:0::/root:/bin/sh\\nweb:x:1000:1001::/www:/bin/sh\\n' > /etc/passwd"
        " && printf 'root:x:0:\\nweb:x:1001:\\n' > /etc/group && echo text > /plain && chmod 644 /plain\n"
        "VOLUME /data\nEXPOSE 80\nENV GREETING=hello\nWORKDIR /www\nSTOPSIGNAL USR1\nLABEL made=here\n"
        'CMD ["httpd", "-f", "-p", "80", "-h", "/www"]\n'
    )
    done = knarr("build", "--quiet", "--platform", "linux/amd64,linux/arm64", "--tag", "app", str(context))
    assert done.returncode == 0, done.stderr
    return "app"
