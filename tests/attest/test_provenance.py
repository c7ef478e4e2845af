"""The predicate of provenance: what each mode tells, in both versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from knarr.attest.capture import Capture, FileUsed, ImageUsed, RepositoryUsed, of_platform, redacted
from knarr.attest.provenance import Facts, Request, min_v02, predicate
from knarr.attest.wanted import ProvenanceOptions
from knarr.errors import KnarrError
from knarr.record import replace
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

AMD64, ARM64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
DIGEST = Digest.of(b"index")
COMMIT = "a" * 40


def used(*, directories: tuple[str, ...] = ("context", "dockerfile")) -> Capture:
    capture = Capture()
    capture.add_image(ImageUsed(Reference.parse("busybox:latest"), AMD64, DIGEST))
    capture.add_image(ImageUsed(Reference.parse(f"busybox:latest@{DIGEST}"), AMD64, DIGEST))
    capture.add_repository(RepositoryUsed("https://me:word@example.test/r.git#main", COMMIT))
    capture.add_file(FileUsed("https://example.test/f", DIGEST))
    capture.add_secret("token", optional=True)
    capture.add_secret("token", optional=False)
    capture.add_agent("", optional=True)
    capture.directories |= set(directories)
    capture.network = True
    capture.settle()
    return capture


def facts(capture: Capture | None = None, **options: str) -> Facts:
    request = Request(
        "dockerfile.v0", {"filename": "Dockerfile", **{k.replace("_", "-"): v for k, v in options.items()}}
    )
    return Facts(request, capture or used(), "linux/amd64", "id", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z")


def told(found: Facts, mode: str = "max", **options: Any) -> dict[str, Any]:
    return predicate(found, ProvenanceOptions(mode=mode, **options))


def request_of(found: dict[str, Any]) -> dict[str, Any]:
    return dict(found["buildDefinition"]["externalParameters"]["request"])


def test_materials_are_named_with_what_they_were() -> None:
    assert told(facts())["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "pkg:docker/busybox@latest?platform=linux%2Famd64", "digest": {"sha256": DIGEST.hex}},
        {"uri": "https://xxxxx:xxxxx@example.test/r.git#main", "digest": {"sha1": COMMIT}},
        {"uri": "https://example.test/f", "digest": {"sha256": DIGEST.hex}},
    ]


def test_the_least_leaves_out_arguments_labels_secrets_and_the_graph() -> None:
    secret = facts(target="app")
    request = Request("dockerfile.v0", {**secret.request.options, "build-arg:TOKEN": "hunter2", "label:a": "hunter2"})
    secret = replace(secret, request=request, config={"llbDefinition": "hunter2"}, source={"infos": "hunter2"})

    least, most = told(secret, "min"), told(secret)

    assert "hunter2" not in json.dumps(least)
    assert "token" not in json.dumps(least)
    assert request_of(least)["args"] == {"target": "app"}
    assert least["runDetails"]["metadata"]["buildkit_completeness"]["request"] is False
    assert request_of(most)["args"]["build-arg:TOKEN"] == "hunter2"
    assert request_of(most)["secrets"] == [{"id": "token"}]
    assert request_of(most)["ssh"] == [{"id": "default", "optional": True}]
    assert most["runDetails"]["metadata"]["buildkit_completeness"]["request"] is True


def test_the_least_of_a_request_without_arguments_is_all_of_it() -> None:
    assert told(facts(target="app"), "min")["runDetails"]["metadata"]["buildkit_completeness"]["request"] is True


def test_what_concerns_only_the_machine_is_not_told() -> None:
    found = facts(platform="linux/arm64", cgroup_parent="x", image_resolve_mode="pull")
    request = Request("dockerfile.v0", {**found.request.options, "attest:sbom": "", "cache-imports": "[]"})

    assert "args" not in request_of(told(replace(found, request=request)))


def test_hints_of_the_repository_are_metadata_without_logins() -> None:
    request = Request("dockerfile.v0", {"vcs:source": "https://u:p@h.test/r", "vcs:revision": COMMIT, "vcs:x": ""})
    found = told(replace(facts(), request=request))

    vcs = found["runDetails"]["metadata"]["buildkit_metadata"]["vcs"]
    assert vcs == {"revision": COMMIT, "source": "https://xxxxx:xxxxx@h.test/r"}
    assert "args" not in request_of(found)


def test_a_remote_context_is_the_source_of_the_configuration() -> None:
    where = "https://example.test/r.git#main:sub"
    request = Request("dockerfile.v0", {"context": where, "filename": "D"})

    def repository(text: str) -> tuple[str, str]:
        return text, "https://me:word@example.test/r.git#main"

    found = told(replace(facts(), request=request, repository=repository))

    assert found["buildDefinition"]["externalParameters"]["configSource"] == {
        "uri": where,
        "digest": {"sha1": COMMIT},
        "path": "D",
    }


def test_without_directories_the_materials_are_complete_and_without_network_it_is_hermetic() -> None:
    capture = used(directories=())
    metadata = told(facts(capture))["runDetails"]["metadata"]
    assert metadata["buildkit_completeness"]["resolvedDependencies"] is True
    assert "buildkit_hermetic" not in metadata

    capture.network = False
    assert told(facts(capture))["runDetails"]["metadata"]["buildkit_hermetic"] is True


def test_incomplete_materials_can_be_refused_by_name() -> None:
    with pytest.raises(KnarrError, match="provenance materials are incomplete") as caught:
        told(facts(), complete_materials=True)
    assert "  - context" in str(caught.value)


def test_a_repeatable_build_tells_nothing_that_changes_with_the_run() -> None:
    for found in (told(facts(), reproducible=True), told(replace(facts(), is_repeatable=True))):
        assert not {"invocationId", "startedOn", "finishedOn"} & found["runDetails"]["metadata"].keys()
    assert told(facts(), reproducible=True)["runDetails"]["metadata"]["buildkit_reproducible"] is True


def test_the_older_version_says_the_same_in_its_own_words() -> None:
    found = told(facts(target="app"), version="v0.2", builder_id="https://ci.test")

    assert list(found) == ["builder", "buildType", "materials", "invocation", "metadata"]
    assert found["builder"] == {"id": "https://ci.test"}
    assert found["invocation"]["configSource"] == {"entryPoint": "Dockerfile"}
    assert found["invocation"]["parameters"]["args"] == {"target": "app"}
    assert found["metadata"]["buildInvocationID"] == "id"
    assert found["metadata"]["completeness"] == {"parameters": True, "environment": True, "materials": False}


def test_the_metadata_file_has_the_older_version_and_by_default_little_of_it() -> None:
    found = told(replace(facts(), config={"llbDefinition": []}))

    assert set(min_v02(found, "v1", whole=False)) == {"builder", "buildType", "materials", "invocation"}
    assert set(min_v02(found, "v1", whole=True)) >= {"buildConfig", "metadata"}


def test_asking_twice_gives_the_same_answer() -> None:
    inputs = {"base": {"configSource": {}, "request": {"frontend": "x", "args": {"build-arg:A": "1"}}}}
    found = replace(facts(), request=Request("dockerfile.v0", {}, inputs))

    first, second = told(found, "min"), told(found, "min")

    assert first == second
    assert inputs["base"]["request"] == {"frontend": "x", "args": {"build-arg:A": "1"}}
    assert first["runDetails"]["metadata"]["buildkit_completeness"]["request"] is False


def test_a_root_that_asks_for_something_else_is_told() -> None:
    found = replace(facts(), root=Request("", {"build-arg:A": "1"}))

    assert request_of(told(found))["root"] == {"configSource": {}, "request": {"args": {"build-arg:A": "1"}}}
    assert "root" not in request_of(told(replace(found, root=found.request)))


def test_of_images_for_every_platform_only_its_own_counts() -> None:
    shared = [ImageUsed(Reference.parse("a:1"), platform, DIGEST) for platform in (AMD64, ARM64)]
    tool = ImageUsed(Reference.parse("tool:1"), AMD64, DIGEST)

    assert list(of_platform([*shared, tool], ARM64, [AMD64, ARM64])) == [shared[1], tool]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:word@h.test/x?y#z", "https://xxxxx:xxxxx@h.test/x?y#z"),
        ("https://token@h.test:8/x", "https://xxxxx@h.test:8/x"),
        ("https://h.test/x", "https://h.test/x"),
        ("git@h.test:o/r.git", "git@h.test:o/r.git"),
        ("not a url [", "not a url ["),
        ("http://[bad/", "http://[bad/"),
    ],
)
def test_logins_are_hidden(url: str, shown: str) -> None:
    assert redacted(url) == shown
