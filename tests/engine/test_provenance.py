"""Provenance of real builds: what is told of what was really used, and never what must not be."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Knarr
from tests.ops.servers import Page, Work, file_server, git_server

pytestmark = [pytest.mark.root, pytest.mark.system]

DOCKERFILE = """
FROM busybox AS base
ARG NAME
RUN --network=none echo $NAME > /name
FROM base
COPY f /f
RUN --mount=type=secret,id=token,env=TOKEN \\
    --mount=type=ssh,required=false true
"""


def archive(path: Path) -> tuple[dict[str, Any], Callable[[dict[str, Any]], bytes]]:
    """The index of an OCI archive, and how to read what it lists."""
    with tarfile.open(path) as tar:
        blobs = {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]

    def blob(descriptor: dict[str, Any]) -> bytes:
        return blobs["blobs/" + descriptor["digest"].replace(":", "/")]

    return json.loads(blob(json.loads(blobs["index.json"])["manifests"][0])), blob


def statements(path: Path) -> list[dict[str, Any]]:
    """The statements of an archive, platform by platform."""
    index, blob = archive(path)
    about = [m for m in index["manifests"] if "vnd.docker.reference.type" in m.get("annotations", {})]
    return [json.loads(blob(layer)) for entry in about for layer in json.loads(blob(entry))["layers"]]


def build(knarr: Knarr, context: Path, *options: str, dockerfile: str = DOCKERFILE) -> list[dict[str, Any]]:
    out = knarr.work / "out.tar"
    knarr.run(*knarr.command(dockerfile, *options, context=context), "-o", f"type=oci,dest={out},name=a.test/app:1")
    return statements(out)


def test_everything_is_told_and_no_secret_is(knarr: Knarr, context: Path) -> None:
    (knarr.work / "token").write_text("hunter2")
    options = ("--build-arg", "NAME=arg", "--secret", f"id=token,src={knarr.work}/token", "--provenance=mode=max")

    (found,) = build(knarr, context, *options)

    assert "hunter2" not in json.dumps(found)
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"][0]["name"] == "pkg:docker/a.test/app@1?platform=linux%2Famd64"
    definition, details = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    (material,) = definition["resolvedDependencies"]
    assert material["uri"] == "pkg:docker/busybox@latest?platform=linux%2Famd64"
    request = definition["externalParameters"]["request"]
    assert request["args"] == {"build-arg:NAME": "arg"}
    assert request["secrets"] == [{"id": "token", "optional": True}]
    assert request["ssh"] == [{"id": "default", "optional": True}]
    assert [one["name"] for one in request["locals"]] == ["context", "dockerfile"]
    steps = definition["internalParameters"]["buildConfig"]["llbDefinition"]
    assert [list(step["op"]["Op"]) for step in steps] == [["source"], ["exec"], ["source"], ["file"], ["exec"], []]
    told = details["metadata"]["buildkit_metadata"]
    assert told["source"]["infos"][0]["filename"] == "Dockerfile.test"
    assert told["source"]["locations"]["step4"]["locations"][0]["ranges"] == [
        {"start": {"line": 7}, "end": {"line": 7}},
        {"start": {"line": 8}, "end": {"line": 8}},
    ]
    assert {step: len(chains[0]) for step, chains in told["layers"].items()} == {
        "step0:0": 1,
        "step1:0": 2,
        "step3:0": 3,
        "step4:0": 4,
    }


def test_layers_are_told_of_a_build_out_of_the_cache_as_well(knarr: Knarr, context: Path) -> None:
    first = build(knarr, context, "--provenance=mode=max")[0]
    second = build(knarr, context, "--provenance=mode=max")[0]

    def layers(found: dict[str, Any]) -> dict[str, Any]:
        return dict(found["predicate"]["runDetails"]["metadata"]["buildkit_metadata"]["layers"])

    assert layers(second) == layers(first)


def test_every_platform_has_its_own(knarr: Knarr, context: Path) -> None:
    found = build(knarr, context, "--platform=linux/amd64,linux/arm64", dockerfile="FROM busybox\nCOPY f /\n")

    platforms = ["linux%2Famd64", "linux%2Farm64"]
    for statement, platform in zip(found, platforms, strict=True):
        assert statement["subject"][0]["name"].endswith(platform)
        (material,) = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        assert material["uri"] == f"pkg:docker/busybox@latest?platform={platform}"


def test_a_build_of_nothing_has_none(knarr: Knarr, context: Path) -> None:
    knarr.run(*knarr.command("FROM scratch\n", context=context), "-o", f"type=oci,dest={knarr.work}/out.tar")
    index, _ = archive(knarr.work / "out.tar")
    assert "manifests" not in index


def test_an_epoch_gives_the_same_index_twice(knarr: Knarr, context: Path) -> None:
    options = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--platform=linux/amd64,linux/arm64")
    digests = set()
    for _ in range(2):
        build(knarr, context, *options, "--metadata-file", str(knarr.work / "m"), dockerfile="FROM busybox\nCOPY f /\n")
        digests.add(json.loads((knarr.work / "m").read_text())["containerimage.digest"])
    assert len(digests) == 1


def test_the_image_that_runs_is_the_same_with_and_without(knarr: Knarr, context: Path) -> None:
    def built(*options: str) -> dict[str, Any]:
        metadata = ("--metadata-file", str(knarr.work / "m"))
        knarr.run(*knarr.command(DOCKERFILE, "-t", "app", *metadata, *options, context=context))
        return dict(json.loads((knarr.work / "m").read_text()))

    bare = built("--provenance=false")
    built()

    entry, about = json.loads(knarr.run("inspect", "--raw", "app").stdout)["manifests"]
    assert entry["digest"] == bare["containerimage.digest"]
    assert entry["platform"] == {"architecture": "amd64", "os": "linux"}
    assert about["platform"] == {"architecture": "unknown", "os": "unknown"}


def test_repositories_and_files_from_urls_are_materials(knarr: Knarr, context: Path, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with file_server() as files, git_server(tmp_path / "served") as repositories:
        files.pages["/f"] = Page(b"one")
        work = Work(tmp_path / "work", repositories, "r")
        commit = work.commit({"a": "a"})
        work.publish()
        text = f"FROM scratch\nADD {files.url('/f')} /f\nADD {work.url}#main /r\n"
        (found,) = build(knarr, context, "--provenance=mode=max", dockerfile=text)

    definition = found["predicate"]["buildDefinition"]
    assert definition["resolvedDependencies"] == [
        {"uri": f"{work.url}#main", "digest": {"sha1": commit}},
        {"uri": files.url("/f"), "digest": {"sha256": hashlib.sha256(b"one").hexdigest()}},
    ]
    assert {one["id"] for one in definition["externalParameters"]["request"]["secrets"]} == {
        "GIT_AUTH_TOKEN",
        "GIT_AUTH_HEADER",
    }


def test_the_metadata_file_tells_as_much_as_is_wanted(knarr: Knarr, context: Path) -> None:
    def told(mode: str, *options: str) -> dict[str, Any]:
        knarr.env["BUILDX_METADATA_PROVENANCE"] = mode
        file = knarr.work / "metadata.json"
        knarr.run(*knarr.command("FROM busybox\nCOPY f /\n", "--metadata-file", str(file), *options, context=context))
        return dict(json.loads(file.read_text()))

    least = told("")["buildx.build.provenance"]
    assert least["buildType"] == "https://mobyproject.org/buildkit@v1"
    assert "metadata" not in least
    assert "buildConfig" in told("max")["buildx.build.provenance"]
    assert "buildx.build.provenance" not in told("disabled")
    both = told("min", "--platform=linux/amd64,linux/arm64", "--provenance=false")
    assert {key for key in both if "provenance" in key} == {
        "buildx.build.provenance/linux/amd64",
        "buildx.build.provenance/linux/arm64",
    }


def test_the_commit_of_the_context_is_told(knarr: Knarr, context: Path) -> None:
    for argv in (["init", "-q"], ["add", "f"], ["-c", "user.name=n", "-c", "user.email=e@x", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(context), *argv], check=True)
    head = subprocess.run(["git", "-C", str(context), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)

    (found,) = build(knarr, context, "--provenance=mode=min")

    vcs = found["predicate"]["runDetails"]["metadata"]["buildkit_metadata"]["vcs"]
    assert vcs == {"revision": head.stdout.strip(), "localdir:context": "."}


def test_a_new_commit_without_a_change_is_a_new_build(knarr: Knarr, context: Path) -> None:
    def commit() -> str:
        subprocess.run(
            [
                "git",
                "-C",
                str(context),
                "-c",
                "user.name=n",
                "-c",
                "user.email=e@x",
                "commit",
                "--allow-empty",
                "-qm",
                "x",
            ],
            check=True,
        )
        argv = knarr.command("FROM busybox\nCOPY f /\n", "-t", "app", context=context)
        return knarr.run(*argv, check=True).stderr

    subprocess.run(["git", "-C", str(context), "init", "-q"], check=True)
    commit()
    assert "Unchanged since it was last built" not in commit()


def test_options_that_cannot_be_meant_stop_before_anything_is_built(knarr: Knarr, context: Path) -> None:
    for options, said in (
        (("--provenance=version=v2",), "invalid provenance SLSA version: v2"),
        (("--provenance=complete-materials=true",), "provenance materials are incomplete"),
    ):
        done = knarr.run(*knarr.command("FROM busybox\nCOPY f /\n", *options, context=context), check=False)
        assert done.returncode != 0
        assert said in done.stderr
        assert "Traceback" not in done.stderr
