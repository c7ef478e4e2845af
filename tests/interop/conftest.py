"""One image, built once with `knarr build`, for programs that we did not write to judge and to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NAME = "example.com/team/app:v1"
DOCKERFILE = """\
FROM busybox
RUN echo 'app:x:1234:1235::/home/app:/bin/sh' >> /etc/passwd && mkdir /data /del \\
 && echo one > /data/one && echo two > /data/two && chmod 4755 /data/two && touch /del/x
RUN rm /data/one && ln /data/two /data/hard && rm -r /del && mkdir /opaque && touch /opaque/old
RUN rm -r /opaque && mkdir /opaque && touch /opaque/new && ln -s /data/two /opaque/link
COPY --link --chown=app-user-is-a-number:1 --chmod=640 d /copied/
COPY d /kept/ü/
ADD a.tar /unpacked/
USER app
WORKDIR /work
ENV GREETING=hello
LABEL a.b="c <&>"
EXPOSE 80
VOLUME /vol
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo $GREETING; id -u; id -g; pwd; ls /data /opaque; cat /kept/ü/sub/b; test ! -e /del && echo gone"]
""".replace("app-user-is-a-number", "7")
SAID = "hello\n1234\n1235\n/work\n/data:\nhard\ntwo\n\n/opaque:\nlink\nnew\nb\ngone\n"


class Knarr:
    """The command on a store of its own."""

    def __init__(self, root: Path, hosts_dir: Path) -> None:
        self.root = root
        self.env = {
            **os.environ,
            "KNARR_ROOT": str(root),
            "KNARR_HOSTS_DIR": str(hosts_dir),
            "DOCKER_CONFIG": str(root.parent / "docker-config"),
        }

    def __call__(self, *argv: str | Path) -> str:
        """Its standard output."""
        return run(sys.executable, "-m", "knarr", *argv, env=self.env)


def run(*argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """What a program writes to standard output; when it fails, the test fails with all that it said."""
    done = subprocess.run(
        list(map(str, argv)), env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Shipped:
    """What `knarr build` made of the Dockerfile above."""

    oci: Path  # archives
    docker: Path
    docker_types: Path  # with Docker's media types
    zstd: Path
    both: Path  # amd64 and arm64
    tree: Path  # type=local
    tar: Path  # type=tar
    metadata: dict[str, Any]  # of the build of `oci`
    said: str = SAID
    name: str = NAME


@pytest.fixture(scope="session")
def knarr(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Knarr:
    return Knarr(tmp_path_factory.mktemp("knarr") / "state", bases.hosts_dir)


@pytest.fixture(scope="session")
def shipped(knarr: Knarr, tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    context = tmp_path_factory.mktemp("context")
    _fill(context)
    out = tmp_path_factory.mktemp("shipped")
    (context / "Dockerfile").write_text(DOCKERFILE)
    build = ("build", "--progress=plain", "--metadata-file", out / "metadata.json")

    def make(form: str, file: str, *options: str, platform: str = "") -> Path:
        choice = ("--platform", platform) if platform else ()
        named = () if form == "tar" else (f"name={NAME}",)
        knarr(*build, *choice, "-o", ",".join((f"type={form}", f"dest={out / file}", *named, *options)), context)
        return out / file

    docker = make("docker", "docker.tar")
    types = make("docker", "docker-types.tar", "oci-mediatypes=false")
    zstd = make("oci", "zstd.tar", "compression=zstd", "force-compression=true")
    both = make("oci", "both.tar", platform="linux/amd64,linux/arm64")
    tar = make("tar", "tree.tar")
    knarr("build", "-o", f"type=local,dest={out / 'tree'}", context)
    oci = make("oci", "oci.tar")
    return Shipped(oci, docker, types, zstd, both, out / "tree", tar, json.loads((out / "metadata.json").read_text()))


def _fill(context: Path) -> None:
    import io
    import tarfile

    (context / "d/sub").mkdir(parents=True)
    (context / "d/a").write_text("a\n")
    (context / "d/sub/b").write_text("b\n")
    for path in (context / "d/sub/b", context / "d/a", context / "d/sub", context / "d"):
        path.chmod(0o755)
        os.utime(path, (1577836800, 1577836800))
    with tarfile.open(context / "a.tar", "w") as tar:
        entry = tarfile.TarInfo("member")
        entry.uid, entry.gid, entry.mode, entry.mtime, entry.size = 55, 66, 0o640, 1577836800, 3
        tar.addfile(entry, io.BytesIO(b"hi\n"))


@contextmanager
def service(argv: list[str], socket: Path, log: Path) -> Iterator[None]:
    """A program that serves on `socket` while the context lasts."""
    with open(log, "wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{argv[0]} did not come up:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def dockerd(place: Path) -> Iterator[str]:
    """A dockerd of our own below `place`, without networks; gives its address."""
    address = f"unix://{place}/docker.sock"
    (place / "none.json").write_text("{}")
    command = [
        *("unshare", "--mount", "--propagation=private"),  # it leaves a mount of its network namespace behind
        *("dockerd", "--host", address, "--pidfile", f"{place}/pid", "--config-file", f"{place}/none.json"),
        *("--data-root", f"{place}/root", "--exec-root", f"{place}/exec", "--storage-driver", "vfs"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false"),
    ]
    with service(command, place / "docker.sock", place / "docker.log"):
        yield address
