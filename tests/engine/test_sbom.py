"""SBOMs of real builds: by the built-in scanner and by an image that follows BuildKit's protocol, stages included."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from knarr.attest.wanted import wanted
from knarr.frontend.scanner import for_others, scanner_of
from tests.conftest import Bases
from tests.engine.conftest import Knarr

pytestmark = [pytest.mark.root, pytest.mark.system]

STATUS = "Package: app\\nStatus: install ok installed\\nVersion: 1.0\\nArchitecture: all\\n"
DOCKERFILE = f"""
FROM busybox AS build
ARG BUILDKIT_SBOM_SCAN_STAGE=true
RUN echo x > /x && mkdir -p /var/lib/dpkg && printf '{STATUS}' > /var/lib/dpkg/status
FROM scratch
COPY --from=build /x /x
COPY --from=build /var/lib/dpkg /var/lib/dpkg
COPY lock /lock
"""
SCANNER = """
FROM busybox
WORKDIR /work
ENV WORD=word
COPY <<"EOF" /scan.sh
say() {
  cat > "$BUILDKIT_SCAN_DESTINATION/$1" <<STATEMENT
{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://spdx.dev/Document", "predicate": {"name": "$2"}}
STATEMENT
}
say sbom.spdx.json "$(cat $BUILDKIT_SCAN_SOURCE/x) $WORD $BUILDKIT_SCAN_ARG $(pwd)"
touch $BUILDKIT_SCAN_SOURCE/no 2>/dev/null && exit 3
[ -n "$BUILDKIT_SCAN_SOURCE_EXTRAS" ] || exit 0
for directory in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do say $(basename $directory).spdx.json $(basename $directory); done
EOF
CMD ["sh", "/scan.sh"]
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "sources"
    (path / "lock").mkdir(parents=True)
    (path / "lock/package-lock.json").write_text('{"packages": {"node_modules/left": {"version": "1.0.0"}}}')
    return path


@pytest.fixture
def generator(knarr: Knarr, bases: Bases) -> str:
    """An image that scans, in the registry."""
    name = f"{bases.address}/scanner:1"
    command = knarr.command(SCANNER)
    knarr.run(*command, "--provenance=false", "-o", f"type=registry,name={name},registry.insecure=true")
    return name


def statements(path: Path) -> list[dict[str, Any]]:
    """The statements of an OCI archive, in order."""
    with tarfile.open(path) as tar:
        blobs = {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]

    def blob(descriptor: dict[str, Any]) -> Any:
        return json.loads(blobs["blobs/" + descriptor["digest"].replace(":", "/")])

    index = blob(json.loads(blobs["index.json"])["manifests"][0])
    about = [one for one in index.get("manifests", ()) if "vnd.docker.reference.type" in one.get("annotations", {})]
    return [blob(layer) for entry in about for layer in blob(entry)["layers"]]


def build(knarr: Knarr, context: Path, *options: str, dockerfile: str = DOCKERFILE) -> list[dict[str, Any]]:
    out = knarr.work / "out.tar"
    command = knarr.command(dockerfile, "--provenance=false", *options, context=context)
    knarr.run(*command, "-o", f"type=oci,dest={out},name=a.test/app:1")
    return statements(out)


def names(document: dict[str, Any]) -> set[str]:
    return {one["name"] for one in document["packages"]}


def test_the_built_in_scanner_tells_of_result_stage_and_context(knarr: Knarr, context: Path) -> None:
    core, stage, lent = build(
        knarr,
        context,
        "--sbom=true",
        "--build-arg",
        "BUILDKIT_SBOM_SCAN_CONTEXT=true",
        dockerfile="ARG BUILDKIT_SBOM_SCAN_CONTEXT\n" + DOCKERFILE,
    )
    assert core["predicateType"] == "https://spdx.dev/Document"
    assert core["subject"][0]["name"] == "pkg:docker/a.test/app@1?platform=linux%2Famd64"
    assert names(core["predicate"]) == {"sbom", "app", "left"}
    assert names(stage["predicate"]) == {"sbom-build", "app"}
    assert names(lent["predicate"]) == {"sbom-context", "left"}
    (lock,) = (one for one in core["predicate"]["files"] if one["fileName"] == "lock/package-lock.json")
    assert lock["comment"].startswith("layerID: sha256:")


def test_an_unchanged_result_has_the_same_sbom_and_is_not_scanned_again(knarr: Knarr, context: Path) -> None:
    arguments = ("--sbom=true", "--build-arg", "BUILDKIT_SBOM_SCAN_CONTEXT=true")
    dockerfile = "ARG BUILDKIT_SBOM_SCAN_CONTEXT\n" + DOCKERFILE
    first = build(knarr, context, *arguments, dockerfile=dockerfile)
    kept = sorted((knarr.root / "sboms").iterdir())
    again = build(knarr, context, *arguments, "--label", "a=b", dockerfile=dockerfile)
    assert [one["predicate"] for one in again] == [one["predicate"] for one in first]
    assert sorted((knarr.root / "sboms").iterdir()) == kept


def test_inventories_that_are_kept_are_listed_and_pruned(knarr: Knarr, context: Path) -> None:
    first = build(knarr, context, "--sbom=true")
    assert knarr.run("du", "--filter", "type=sbom").stdout.count("software that was found") == 2
    knarr.run("prune", "--force", "--filter", "type=sbom")
    assert list((knarr.root / "sboms").iterdir()) == []
    assert [names(one["predicate"]) for one in build(knarr, context, "--sbom=true")] == [
        names(one["predicate"]) for one in first
    ]


def test_each_platform_has_its_own(knarr: Knarr, context: Path) -> None:
    dockerfile = "FROM busybox\nCOPY lock /lock\n"
    found = build(knarr, context, "--sbom", "true", "--platform", "linux/amd64,linux/arm64", dockerfile=dockerfile)
    assert [one["subject"][0]["name"].rpartition("%2F")[2] for one in found] == ["amd64", "arm64"]


def test_the_name_of_buildkits_generator_means_the_built_in_scanner(knarr: Knarr, context: Path) -> None:
    (found,) = build(
        knarr,
        context,
        "--sbom=generator=docker/buildkit-syft-scanner:stable-1",
        dockerfile="FROM scratch\nCOPY lock /lock\n",
    )
    assert names(found["predicate"]) == {"sbom", "left"}


def test_cyclonedx_by_option(knarr: Knarr, context: Path) -> None:
    (found,) = build(knarr, context, "--sbom=format=cyclonedx-json", dockerfile="FROM scratch\nCOPY lock /lock\n")
    assert found["predicateType"] == "https://cyclonedx.org/bom"
    assert [one["name"] for one in found["predicate"]["components"]] == ["left"]


def test_a_generator_sees_result_stages_and_its_options(knarr: Knarr, context: Path, generator: str) -> None:
    core, stage = build(knarr, context, f"--sbom=generator={generator},ARG=option")
    assert core["predicate"] == {"name": "x word option /work"}
    assert core["subject"][0]["name"].startswith("pkg:docker/a.test/app@1")
    assert stage["predicate"] == {"name": "sbom-build"}


def test_a_generator_s_options_reach_a_frontend_that_is_an_image() -> None:
    scanner = scanner_of({"generator": "a.test/b", "x": "1,2", "type": "sbom"})
    assert wanted({"attest:sbom": scanner.options}) == {
        "sbom": {"generator": "a.test/b:latest", "x": "1,2", "type": "sbom"}
    }
    options = {"attest:sbom": "", "build-arg:A": "b"}
    assert for_others(options, {}) == {"build-arg:A": "b"}
    assert for_others(options, {"generator": "a.test/b"}) == options
    forced = {"generator": "docker-image://docker/buildkit-syft-scanner:stable-1"}
    assert str(scanner_of(forced).generator) == "docker.io/docker/buildkit-syft-scanner:stable-1"


def test_scans_can_be_switched_off_for_stages(knarr: Knarr, context: Path, generator: str) -> None:
    found = build(knarr, context, f"--sbom=generator={generator}", "--build-arg", "BUILDKIT_SBOM_SCAN_STAGE=false")
    assert len(found) == 1
    named = build(knarr, context, "--sbom=true", "--build-arg", "BUILDKIT_SBOM_SCAN_STAGE=other,build")
    assert len(named) == 2


def test_files_of_a_directory_are_sboms_too(knarr: Knarr, context: Path) -> None:
    out = knarr.work / "tree"
    knarr.run(*knarr.command(DOCKERFILE, "--sbom=true", "--provenance=false", context=context), "-o", str(out))
    document = json.loads((out / "sbom.spdx.json").read_text())
    assert {one["name"] for one in document["subject"]} == {"x", "lock/package-lock.json", "var/lib/dpkg/status"}
    assert (out / "sbom-build.spdx.json").exists()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--sbom=generator=", "sbom generator cannot be empty"),
        ("--sbom=generator=A_B:::", "failed to parse sbom generator A_B:::"),
        ("--sbom=format=xml", "sbom: format=xml: not known"),
        ("--sbom=generator=busybox:nowhere", "busybox:nowhere"),
    ],
)
def test_a_generator_that_cannot_be_is_told(knarr: Knarr, context: Path, option: str, text: str) -> None:
    done = knarr.run(*knarr.command("FROM scratch\nCOPY lock /l\n", option, context=context), "-o", "out", check=False)
    assert done.returncode
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_generator_that_fails_fails_the_build(knarr: Knarr, context: Path, bases: Bases) -> None:
    name = f"{bases.address}/failing:1"
    command = knarr.command('FROM busybox\nCMD ["sh", "-c", "echo broken; exit 7"]\n', "--provenance=false")
    knarr.run(*command, "-o", f"type=registry,name={name},registry.insecure=true")
    dockerfile = "FROM scratch\nCOPY lock /l\n"
    done = knarr.run(*knarr.command(dockerfile, f"--sbom=generator={name}", context=context), "-o", "out", check=False)
    assert done.returncode == 1
    assert "broken" in done.stderr


def test_an_sbom_too_large_for_a_statement_goes_without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    from knarr.engine import sbom
    from knarr.errors import ContentError
    from knarr.sbom.about import About
    from knarr.sbom.package import FileFact, Inventory, Package

    facts = {f"usr/bin/{n}": FileFact(1, "f" * 40, "e" * 64) for n in range(200)}
    inventory = Inventory((Package("deb", "a", "1", evidence=("x",)),), facts, (tuple(facts),))
    document = sbom._Document(inventory, About("sbom", 0), "https://spdx.dev/Document")
    assert len(json.loads(document.predicate())["files"]) == 200
    monkeypatch.setattr(sbom, "MAX_BYTES", 10_000)
    assert "files" not in json.loads(document.predicate())
    monkeypatch.setattr(sbom, "MAX_BYTES", 100)
    with pytest.raises(ContentError, match="the SBOM of 1 packages is over the limit"):
        document.predicate()
