"""The BuildKit inside docker builds the same Dockerfiles: equal files, equal configs.

Debian's is an old one: what it does otherwise than BuildKit of today is not in these Dockerfiles (owners that ADD
gives to an archive's files, directories that mounts left behind).
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Knarr, dockerd, run

pytestmark = [pytest.mark.root, pytest.mark.system]

CASES = {
    "copies": """
COPY . /all/
COPY f d/ /two/
COPY lnk /as-file
COPY d /new/dir
COPY --chown=7:8 d/sub /owned/deep/
COPY --chown=daemon f /by-name/f
ADD a.tar /unpacked/
COPY nothing* f /w/
""",
    "working directories": """
USER 12:34
WORKDIR /made/by/user
WORKDIR relative
COPY f here/
ENV PLACE=/env
WORKDIR $PLACE/x
USER root
RUN mkdir /real && ln -s /real /via
WORKDIR /via/inside
""",
    "steps": """
ARG A=argument
ENV A=variable B=$A
ENV B=new C=$B
RUN echo "$A $B $C" > /seen && umask > /umask && id -G > /groups
SHELL ["/bin/sh", "-ec"]
RUN cd /; pwd > /cwd \\
# a comment

    && echo continued > /continued
RUN ["/bin/busybox", "sh", "-c", "echo exec > /exec"]
USER daemon
RUN id -u > /tmp/user
""",
    "mounts": """
RUN mkdir -m 711 /in /kept
RUN --mount=type=bind,source=d,target=/in cp /in/a /out; touch /in/x || echo refused > /refused
RUN --mount=type=bind,source=d,target=/in,rw touch /in/x && ls /in > /listed
RUN --mount=type=tmpfs,target=/kept echo x > /kept/x && stat -c %a /kept > /tmpfs-mode
RUN --mount=type=cache,target=/kept,uid=3,gid=4,mode=0750 stat -c '%u %g %a' /kept > /cache-mode
RUN --mount=from={base},source=/etc,target=/in cp /in/passwd /copied
""",
    "stages": """
RUN mkdir -p /k/sub && echo x > /k/x && ln /k/x /k/hard && ln -s x /k/soft && chown 3:4 /k/x && chmod 4711 /k/sub
ONBUILD RUN echo triggered > /triggered
FROM {base} AS other
COPY --from=0 /k /k
RUN rm /k/x && mkdir /k/new
FROM {base}
COPY --from=other /k /from-other
COPY --from=0 /k/soft /soft
COPY --from=0 --chown=9 /k/sub/ /sub
""".replace("FROM 0x AS unused\n", ""),
    "settings": """
ENV PATH=/x:$PATH QUOTED="a b" EMPTY=
LABEL a=b "two words"="<&>" multi="a\\
b"
EXPOSE 80 443/udp 1000-1002
VOLUME /data /more
VOLUME ["/c", "/d e"]
USER 1:2
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --timeout=3s --start-period=1m --retries=2 CMD wget -q http://x || exit 1
ONBUILD COPY . /src
SHELL ["/bin/ash", "-c"]
ENTRYPOINT entry point
CMD ["a", "b c"]
""",
}
IGNORED = "**/*.log\n!keep.log\nd/sub/deep\n"
SETTINGS = (
    *("Env", "Cmd", "Entrypoint", "WorkingDir", "Labels", "ExposedPorts", "Volumes", "User", "StopSignal"),
    *("Healthcheck", "OnBuild", "Shell"),
)


@pytest.fixture
def context(tmp_path: Path, bases: Any) -> Path:
    root = tmp_path / "context"
    for name in ("f", "d/a", "d/sub/b", "d/sub/deep/c", "drop.log", "d/keep.log", "keep.log"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    os.chmod(root / "f", 0o664)
    os.chmod(root / "d/sub", 0o750)
    os.symlink("f", root / "lnk")
    with tarfile.open(root / "a.tar", "w") as tar:
        member = tarfile.TarInfo("dir/member")
        member.mode, member.uid, member.gid = 0o640, 55, 66
        tar.addfile(member)
    (root / ".dockerignore").write_text(IGNORED)
    return root


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dockerd(tmp_path_factory.mktemp("dkr")) as found:
        yield found


@pytest.fixture
def buildx(address: str, buildx_program: str, tmp_path: Path) -> Callable[..., str]:
    """`docker buildx build` by the BuildKit that is part of dockerd."""
    environ = {
        **os.environ,
        "DOCKER_HOST": address,
        "DOCKER_CONFIG": str(tmp_path),
        "BUILDX_CONFIG": str(tmp_path / "x"),
    }
    build = (buildx_program, "build", "--builder", "default", "--network", "host", "--progress", "plain")
    return lambda *words: run(*build, *words, env=environ)


def files(archive: Path) -> dict[str, tuple[Any, ...]]:
    """What a tar of a result has, but for times."""
    found: dict[str, tuple[Any, ...]] = {}
    with tarfile.open(archive) as tar:
        for entry in tar:
            data = tar.extractfile(entry).read() if entry.isreg() else b""  # type: ignore[union-attr]
            about = (entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, hashlib.sha256(data).hexdigest())
            found[entry.name.strip("/")] = about
    return found


@pytest.mark.parametrize("case", CASES)
def test_docker_builds_the_same(
    case: str, address: str, buildx: Callable[..., str], knarr: Knarr, context: Path, bases: Any, tmp_path: Path
) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text((f"FROM {{base}}\n{CASES[case]}").replace("{base}", f"{bases.address}/library/busybox"))
    buildx("-f", file, "-o", f"type=tar,dest={tmp_path}/docker.tar", context)
    buildx("-f", file, "-t", "compared", "--load", context)
    outputs = ("-o", f"type=tar,dest={tmp_path}/knarr.tar", "-o", "type=image,name=compared")
    knarr("build", "-q", "-f", file, *outputs, context)

    assert files(tmp_path / "knarr.tar") == files(tmp_path / "docker.tar")
    theirs = json.loads(run("docker", "--host", address, "inspect", "compared"))[0]["Config"]
    ours = json.loads(knarr("inspect", "--config", "compared"))["config"]
    assert {key: ours.get(key) or None for key in SETTINGS} == {key: theirs.get(key) or None for key in SETTINGS}
