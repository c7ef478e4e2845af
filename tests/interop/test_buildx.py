"""docker buildx, a program that we did not write, drives `knarr daemon`."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.conftest import Running, running

pytestmark = [pytest.mark.root, pytest.mark.system]

DOCKERFILE = """\
FROM busybox AS base
COPY hello /
FROM base
RUN --mount=type=secret,id=key test "$(rev /run/secrets/key)" = t3rc3s
RUN cat hello hello > /twice
"""
Buildx = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def daemon(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("daemon") / "root"
    with running(root, environ={"KNARR_HOSTS_DIR": str(bases.hosts_dir)}) as found:
        yield found


@pytest.fixture(scope="module")
def buildx(buildx_program: str, daemon: Running, tmp_path_factory: pytest.TempPathFactory) -> Buildx:
    """Runs buildx with the daemon as its builder."""
    home = tmp_path_factory.mktemp("buildx")
    environ = {
        **os.environ,
        "BUILDX_CONFIG": str(home),
        "BUILDX_BUILDER": "knarr",
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }

    def run(*words: str | Path, fails: bool = False, stdin: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [buildx_program, *map(str, words)]
        with open(stdin or os.devnull, "rb") as given:
            done = subprocess.run(
                command, env=environ, stdin=given, capture_output=True, text=True, timeout=180, check=False
            )
        assert (done.returncode != 0) is fails, done.stderr
        return done

    run("create", "--name", "knarr", "--driver", "remote", f"unix://{daemon.socket}")
    return run


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "hello").write_text("hello\n")
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "key").write_text("s3cr3t")
    return directory


def test_it_sees_a_builder_with_its_platforms(buildx: Buildx) -> None:
    said = buildx("inspect").stdout
    assert "Status: running" in " ".join(said.split())
    assert "linux/arm64" in said


def test_two_platforms_are_built_and_pushed(buildx: Buildx, bases: Any, context: Path, tmp_path: Path) -> None:
    name = f"{bases.address}/buildx/app:1"
    words = ("--secret", f"id=key,src={tmp_path}/key", "--platform", "linux/amd64,linux/arm64", "-t", name, "--push")
    said = buildx("build", "--progress", "plain", *words, context).stderr
    assert "[linux/arm64 stage-1 2/2] RUN cat hello hello" in said
    told = json.loads(buildx("imagetools", "inspect", "--raw", name).stdout)
    assert {m["platform"]["architecture"] for m in told["manifests"]} == {"amd64", "arm64"}


def test_nothing_is_built_twice(buildx: Buildx, context: Path, tmp_path: Path) -> None:
    words = (
        "build",
        "--progress",
        "plain",
        "--secret",
        f"id=key,src={tmp_path}/key",
        "-o",
        f"type=local,dest={tmp_path}/a",
    )
    buildx(*words, context)
    assert buildx(*words, context).stderr.count("CACHED") == 3
    assert (tmp_path / "a/twice").read_text() == "hello\nhello\n"


@pytest.mark.parametrize("kind", ["oci", "docker", "tar"])
def test_archives_come_back_whole(buildx: Buildx, context: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.tar"
    buildx("build", "--target", "base", "-o", f"type={kind},dest={out}", context)
    with tarfile.open(out) as archive:
        names = archive.getnames()
    assert ("index.json" in names) is (kind != "tar")
    assert ("hello" in names) is (kind == "tar")


def test_a_context_may_come_on_standard_input(buildx: Buildx, context: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "context.tar.gz", "w:gz") as archive:
        archive.add(context, ".")
    words = ("build", "--target", "base", "-o", f"type=local,dest={tmp_path}/out", "-")
    buildx(*words, stdin=tmp_path / "context.tar.gz")
    assert (tmp_path / "out/hello").read_text() == "hello\n"


def test_a_failing_step_is_shown_with_its_line(buildx: Buildx, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\n\nRUN echo so far && false\n")
    said = buildx("build", "--progress", "plain", context, fails=True).stderr
    assert "so far" in said
    assert "   3 | >>> RUN echo so far && false" in said
    assert "did not complete successfully: exit code: 1" in said


def test_a_cache_in_a_registry_is_written_and_read(buildx: Buildx, bases: Any, context: Path) -> None:
    cache = f"type=registry,ref={bases.address}/buildx/cache:1"
    buildx("build", "--target", "base", "--cache-to", f"{cache},mode=max", context)
    buildx("prune", "--all", "--force")
    said = buildx("build", "--progress", "plain", "--target", "base", "--cache-from", cache, context).stderr
    assert "importing cache manifest" in said
    assert "COPY hello /\n#" in said
    assert said.count("CACHED") == 1


def test_bake_builds_several_targets_at_once(buildx: Buildx, context: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (context / f"{name}.Dockerfile").write_text(f"FROM busybox\nRUN echo {name} > /{name}\n")
    targets = {
        name: {
            "context": str(context),
            "dockerfile": f"{name}.Dockerfile",
            "output": [f"type=local,dest={tmp_path}/{name}"],
        }
        for name in ("one", "two")
    }
    (tmp_path / "bake.json").write_text(
        json.dumps({"group": {"default": {"targets": ["one", "two"]}}, "target": targets})
    )
    buildx("bake", "-f", tmp_path / "bake.json")
    assert (tmp_path / "one/one").read_text() == "one\n"
    assert (tmp_path / "two/two").read_text() == "two\n"


def test_bake_builds_a_target_on_top_of_another(buildx: Buildx, context: Path, tmp_path: Path) -> None:
    (context / "below.Dockerfile").write_text("FROM busybox\nENV WHO=world\nRUN echo hello > /below\n")
    (context / "above.Dockerfile").write_text("FROM base\nRUN cat /below > /above && echo $WHO >> /above\n")
    targets = {
        "below": {"context": str(context), "dockerfile": "below.Dockerfile"},
        "above": {
            "context": str(context),
            "dockerfile": "above.Dockerfile",
            "contexts": {"base": "target:below"},
            "output": [f"type=local,dest={tmp_path}/out"],
        },
    }
    (tmp_path / "bake.json").write_text(json.dumps({"target": targets}))
    buildx("bake", "-f", tmp_path / "bake.json", "above")
    assert (tmp_path / "out/above").read_text() == "hello\nworld\n"


def test_the_cache_is_listed_and_pruned(buildx: Buildx, context: Path) -> None:
    buildx("build", "--target", "base", context)
    assert "Reclaimable:" in buildx("du").stdout
    buildx("prune", "--all", "--force")
    assert buildx("du").stdout.split()[-1] == "0B"


def test_a_shared_cache_is_written_and_read(buildx: Buildx, daemon: Running, context: Path, bases: Any) -> None:
    name = f"{bases.address}/buildx/cache:one"
    words = ("build", "--progress=plain", "--secret", f"id=key,src={context.parent}/key")
    buildx(*words, "--cache-to", f"type=registry,ref={name},mode=max", context)
    buildx("prune", "--all", "--force")
    done = buildx(*words, "--cache-from", name, context)
    assert f"importing cache manifest from {name}" in done.stderr
    assert done.stderr.count(" CACHED\n") == 3


def test_directories_of_the_client_are_caches_layouts_and_contexts(
    buildx: Buildx, context: Path, tmp_path: Path
) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n")
    cache, layout = tmp_path / "cache", tmp_path / "layout"
    to = ("--cache-to", f"type=local,dest={cache},mode=max")
    buildx("build", "--no-cache", *to, "-o", f"type=oci,tar=false,name=app:1,dest={layout}", context)
    buildx("prune", "--all", "--force")
    source = ("--cache-from", f"type=local,src={cache}")
    said = buildx("build", "--progress", "plain", *source, "-o", f"type=local,dest={tmp_path}/again", context).stderr
    assert "CACHED" in said
    (context / "Dockerfile").write_text("FROM base\nCOPY hello /\n")
    lent = ("--build-context", f"base=oci-layout://{layout}:1")
    buildx("build", *lent, "-o", f"type=local,dest={tmp_path}/out", context)
    assert (tmp_path / "out/hello").exists()
    assert (tmp_path / "out/id").read_text() == (tmp_path / "again/id").read_text()


def test_an_sbom_is_made_without_an_image_and_read_back(buildx: Buildx, bases: Any, tmp_path: Path) -> None:
    status = "Package: app\nStatus: install ok installed\nVersion: 1.0\nArchitecture: all\n"
    for name, text in (
        ("status", status),
        ("Dockerfile", "FROM scratch AS base\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY status /var/lib/dpkg/status\n"
         "FROM base\nCOPY Dockerfile /\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
    name = f"{bases.address}/buildx/sbom:1"
    buildx("build", "--sbom=true", "-t", name, "--push", tmp_path)
    told = json.loads(buildx("imagetools", "inspect", "--format", "{{json .SBOM}}", name).stdout)
    assert told["SPDX"]["spdxVersion"] == "SPDX-2.3"
    for document in (told["SPDX"], *told["AdditionalSPDXs"]):
        assert {(one["name"], one.get("versionInfo")) for one in document["packages"][1:]} == {("app", "1.0")}
    assert len(told["AdditionalSPDXs"]) == 1
