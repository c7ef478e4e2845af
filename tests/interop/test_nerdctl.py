"""What `nerdctl build` and `nerdctl builder prune` do: they run buildctl, with these words, and read what it writes.

The words are those of nerdctl's pkg/cmd/builder and pkg/buildkitutil, 8da5040. Debian has neither program, and
nerdctl's own sources come without their modules: buildctl, which does all the talking, is taken from PATH.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.conftest import Running, running

pytestmark = [
    pytest.mark.root,
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("buildctl") is None, reason="buildctl is not on PATH, and no package of Debian's"),
]
DOCKERFILE = """\
FROM busybox AS base
ARG WHO=nobody
COPY hello /
FROM base AS last
RUN --mount=type=secret,id=key cat /run/secrets/key > /seen; echo $WHO >> /seen; cat /etc/hosts >> /seen
"""
Buildctl = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def daemon(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("daemon") / "root"
    allowed = ("--allow-insecure-entitlement=network.host", "--allow-insecure-entitlement=security.insecure")
    with running(root, *allowed, environ={"KNARR_HOSTS_DIR": str(bases.hosts_dir)}) as found:
        yield found


@pytest.fixture
def buildctl(daemon: Running) -> Buildctl:
    def run(*words: str, fails: bool = False) -> subprocess.CompletedProcess[bytes]:
        command = ["buildctl", f"--addr=unix://{daemon.socket}", *words]
        done = subprocess.run(command, capture_output=True, timeout=180, check=False)
        assert (done.returncode != 0) is fails, done.stderr.decode()
        return done

    return run


@pytest.fixture
def build(buildctl: Buildctl, context: Path) -> Buildctl:
    """The words that each build begins with; a context's directory ends them."""

    def run(output: str, *words: str, fails: bool = False) -> subprocess.CompletedProcess[bytes]:
        first = ("build", "--progress=auto", "--frontend=dockerfile.v0", f"--local=context={context}")
        place = (f"--local=dockerfile={context}", "--opt=filename=Dockerfile")
        return buildctl(*first, f"--output={output}", *place, *words, fails=fails)

    return run


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "hello").write_text("hello\n")
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "key").write_text("s3cr3t\n")
    return directory


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {m.name: found.read() for m in tar if (found := tar.extractfile(m)) is not None}


def test_it_finds_the_daemon_and_that_images_must_be_loaded(buildctl: Buildctl) -> None:
    buildctl("debug", "workers")
    workers = json.loads(buildctl("debug", "workers", "--format", "{{json .}}").stdout)
    assert workers[0]["labels"]["org.mobyproject.buildkit.worker.executor"] == "oci"


def test_an_image_comes_on_standard_output_for_containerd(build: Buildctl) -> None:
    found = members(build("type=docker,name=docker.io/library/app:1").stdout)
    assert json.loads(found["manifest.json"])[0]["RepoTags"] == ["app:1"]
    index = json.loads(found["index.json"])
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "docker.io/library/app:1"


def test_one_without_a_name_comes_as_well(build: Buildctl) -> None:
    found = members(build("type=docker,dangling-name-prefix=<none>").stdout)
    assert not json.loads(found["manifest.json"])[0]["RepoTags"]


def test_several_platforms_come_as_an_oci_archive(build: Buildctl) -> None:
    words = ("--opt=platform=linux/amd64,linux/arm64", "--opt=target=base")
    found = members(build("type=oci,name=docker.io/library/app:1", *words).stdout)
    digest = json.loads(found["index.json"])["manifests"][0]["digest"]
    index = json.loads(found[f"blobs/sha256/{digest.removeprefix('sha256:')}"])
    platforms = [each["platform"]["architecture"] for each in index["manifests"]]
    assert [name for name in platforms if name != "unknown"] == ["amd64", "arm64"]


def test_every_option_counts(build: Buildctl, context: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(
        f"type=local,dest={out}",
        "--opt=target=last",
        "--opt=build-arg:WHO=me",
        "--opt=label:a=b",
        "--no-cache",
        "--opt=image-resolve-mode=pull",
        f"--secret=id=key,src={tmp_path}/key",
        "--opt=force-network-mode=none",
        "--opt=add-hosts=far=10.1.2.3",
        f"--metadata-file={tmp_path}/metadata",
    )
    seen = (out / "seen").read_text()
    assert seen.startswith("s3cr3t\nme\n")
    assert "10.1.2.3\tfar" in seen


def test_the_digest_for_an_iidfile_is_in_the_metadata(build: Buildctl, tmp_path: Path) -> None:
    build("type=docker,name=docker.io/library/app:1", f"--metadata-file={tmp_path}/metadata")
    assert json.loads((tmp_path / "metadata").read_text())["containerimage.digest"].startswith("sha256:")


def test_the_hosts_network_is_allowed_where_the_daemon_allows_it(build: Buildctl, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN readlink /proc/self/ns/net > /net\n")
    words = ("--opt=force-network-mode=host", "--allow=network.host", "--allow=security.insecure")
    done = build(f"type=local,dest={context.parent}/out", *words)
    assert done.returncode == 0
    assert (context.parent / "out/net").read_text().strip() == os.readlink("/proc/self/ns/net")


def test_named_contexts_are_directories_and_images(build: Buildctl, context: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "file").write_text("more\n")
    (context / "Dockerfile").write_text("FROM other\nCOPY --from=more file /\n")
    words = (f"--local=more={more}", "--opt=context:more=local:more")
    build(f"type=local,dest={tmp_path}/out", *words, "--opt=context:other=docker-image://busybox")
    assert (tmp_path / "out/file").read_text() == "more\n"


def test_caches_are_written_and_read(build: Buildctl, buildctl: Buildctl, bases: Any) -> None:
    cache = f"type=registry,ref={bases.address}/nerdctl/cache:1"
    build("type=image,name=x", "--opt=target=base", f"--export-cache={cache}")
    inline = ("--opt=build-arg:BUILDKIT_INLINE_CACHE=1", "--export-cache=type=inline")
    build(f"type=image,name={bases.address}/nerdctl/app:1,push=true", "--opt=target=base", *inline)
    buildctl("prune", "--all")
    done = build("type=image,name=x", "--opt=target=base", f"--import-cache={cache}")
    assert b"importing cache manifest" in done.stderr
    assert b"CACHED" in done.stderr


def test_a_failing_step_fails_it(build: Buildctl, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN false\n")
    assert b"exit code: 1" in build("type=docker,name=docker.io/library/app:1", fails=True).stderr


def test_what_was_pruned_is_listed_as_json(build: Buildctl, buildctl: Buildctl) -> None:
    build("type=image,name=x", "--opt=target=base")
    lines = buildctl("prune", "--format={{json .}}", "--all").stdout.splitlines()
    assert all("id" in json.loads(line) or "ID" in json.loads(line) for line in lines)
    assert lines


def test_an_oci_layout_is_a_context(build: Buildctl, context: Path, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(build("type=oci", "--opt=target=base").stdout)) as archive:
        archive.extractall(tmp_path / "layout", filter="data")
    (described,) = json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
    (context / "Dockerfile").write_text("FROM parent\nRUN cat /hello > /again\n")
    words = (f"--oci-layout=parent-image-key={tmp_path}/layout",)
    where = f"--opt=context:parent=oci-layout:parent-image-key@{described['digest']}"
    build(f"type=local,dest={tmp_path}/out", *words, where)
    assert (tmp_path / "out/again").read_text() == "hello\n"


def test_attestations_are_made(build: Buildctl, tmp_path: Path) -> None:
    build(f"type=oci,dest={tmp_path}/a.tar", "--opt=target=base", "--opt=attest:provenance=mode=min")
    found = members((tmp_path / "a.tar").read_bytes())
    assert any(b"https://slsa.dev/provenance/" in data for name, data in found.items() if "blobs" in name)
