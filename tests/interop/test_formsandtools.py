"""Which form of an attestation or a signature which tool finds, reads, verifies and copies: the table of the docs.

Images of one content lie at two registries, one without the referrers API (Debian's
docker-registry) and one with it (knarr's). Each has what is said of it in one form.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from knarr.cli import main
from tests.interop.test_copyregistries import serving
from tests.interop.test_signatures import EMPTY_ROOT, SIGNING

pytestmark = [pytest.mark.root, pytest.mark.system]

SLSA = "https://slsa.dev/provenance/v1"
PLACED = ("index", "older", "referrers", "both", "tag")  # what --attest-store makes: an image for each
SIGNED = {"sig-tag": "signature tag", "sig-bundle": "bundle", "att-tag": "attestation tag", "att-bundle": "bundle"}
FORMS = (*PLACED, *SIGNED)
ALL = set(FORMS)
REGCTL, CRANE = ("regctl", "crane")  # Debian has neither
# tool → forms that it finds, starting from the image; "!": only where the registry has the referrers API
FINDS: dict[str, set[str]] = {
    "buildx": {"index", "older", "both"},
    "cosign": {"tag", "sig-tag", "att-tag"},
    "oras": {"!index", "referrers", "both", "sig-bundle", "att-bundle"},
    REGCTL: ALL,
    CRANE: {"index", "older", "both", "tag", "sig-tag", "att-tag"},
}
COPIES = {
    "buildx": {"index", "older", "both"},
    "cosign": {"index", "older", "both", "tag", "sig-tag", "att-tag"},
    # oras 1.2 loses the index itself where only its platforms have referrers, of BuildKit's images as well.
    "oras": {"older", "sig-bundle", "att-bundle"},
    REGCTL: ALL,
    CRANE: ALL,
    "skopeo": {"index", "older", "both"},
    "knarr": ALL,
}
NEWER = {
    "buildx": {"referrers"},
    "oras": {"index", "referrers", "both"},
}  # what a version that Debian does not have yet copies as well


@dataclass(frozen=True)
class Stage:
    """The registries, and the programs."""

    plain: str  # without the referrers API
    ours: str
    work: Path
    found: dict[str, str]
    image: list[str]  # the digest of what runs on linux/amd64: one, whatever is said of it where

    def run(self, tool: str, *argv: str, ok: bool = True) -> str:
        done = subprocess.run([self.found[tool], *argv], capture_output=True, text=True, timeout=120)
        assert not ok or done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"
        return done.stdout if done.returncode == 0 else ""

    def knarr(self, *argv: str, ok: bool = True) -> str:
        """Run in this process, which is quicker."""
        said = io.TextIOWrapper(io.BytesIO())
        with redirect_stdout(said):
            status = main(list(argv))
        said.seek(0)
        assert not ok or status == 0, argv
        return said.read()

    def hosts(self) -> tuple[str, ...]:
        return "--host", f"reg={self.plain},tls=disabled", "--host", f"reg={self.ours},tls=disabled"

    def name(self, host: str, form: str) -> str:
        return f"{host}/forms/{'signed' if form in SIGNED else form}"

    def platform(self, name: str) -> str:
        return f"{name}@{self.image[0]}"

    def evidence(self, name: str) -> dict[str, set[tuple[str, ...]]]:
        """What knarr finds that was said of an image, by form."""
        found: dict[str, set[tuple[str, ...]]] = {}
        for one in json.loads(self.knarr("attest", "list", "--format", "json", f"{name}:1")):
            found.setdefault(f"att {one['form']}", set()).add((one["subject"], one["digest"]))
        shown = self.knarr("verify", "-k", "k.pub", "-r", "--format", "json", f"{name}:1", ok=False)
        for one in json.loads(shown):
            for piece in one["evidence"]:
                found.setdefault(f"sig {piece['form']}", set()).add((one["digest"], piece["digest"]))
        return found


@pytest.fixture(scope="module")
def stage(
    bases: Any,
    cosign_program: str,
    oras_program: str,
    buildx_program: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    work = tmp_path_factory.mktemp("forms")
    (work / "root.json").write_text(json.dumps(EMPTY_ROOT))
    (work / "p.json").write_text("{}")
    (work / "context").mkdir()
    (work / "context/Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /\n")
    found = {"cosign": cosign_program, "oras": oras_program, "buildx": buildx_program}
    found |= {tool: path for tool in (REGCTL, CRANE, "skopeo") if (path := shutil.which(tool))}
    with serving(work) as ours, pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setenv("KNARR_HOSTS_DIR", str(bases.hosts_dir))
        patch.setenv("COSIGN_PASSWORD", "")
        patch.setenv("HOME", str(work))
        for variable, place in (("KNARR_ROOT", "state"), ("DOCKER_CONFIG", "docker"), ("BUILDX_CONFIG", "buildx")):
            patch.setenv(variable, str(work / place))
        made = Stage(bases.address, ours, work, found, [])
        made.knarr("sign", "generate-key", "k")
        for host in (made.plain, made.ours):
            for form in (*PLACED, "signed"):
                _make(made, f"{host}/forms/{form}", form)
                digest = made.knarr("manifest", "--digest", "--platform", "linux/amd64", f"{host}/forms/{form}:1")
                made.image.append(digest.strip())
        assert len(set(made.image)) == 1
        yield made


def _make(stage: Stage, name: str, form: str) -> None:
    options = ["--provenance=false"]
    if form in PLACED:
        options = ["--provenance=mode=max", "--sbom=true", f"--attest-store={'index' if form == 'older' else form}"]
    output = f"type=registry,name={name}:1,oci-artifact={'false' if form == 'older' else 'true'}"
    stage.knarr("build", "-q", "--platform=linux/amd64,linux/arm64", *options, "-o", output, "context")
    if form == "signed":
        stage.knarr("sign", "--key", "k.key", "--recursive", f"{name}:1")
        words = ("--predicate", "p.json", "--type", "custom", "--platform", "linux/amd64,linux/arm64")
        stage.knarr("attest", "sign", "--key", "k.key", *words, f"{name}:1")


def holder(stage: Stage, host: str, form: str) -> str:
    """The tag, or the digest of the manifest, that has what is said of linux/amd64."""
    name, image = f"{stage.name(host, form)}:1", stage.image[0]
    if form == "tag" or form.endswith("-tag"):
        return f"{image.replace(':', '-')}.{'sig' if form == 'sig-tag' else 'att'}"
    if form in ("index", "older", "both"):
        entries = json.loads(stage.knarr("manifest", "--raw", name))["manifests"]
        return next(str(e["digest"]) for e in entries if image in e.get("annotations", {}).values())
    (child,) = (
        e for e in json.loads(stage.knarr("referrers", "--format", "json", name))["below"] if e["digest"] == image
    )
    wanted = (
        "" if form == "referrers" else SIGNING if form == "sig-bundle" else "https://cosign.sigstore.dev/attestation/v1"
    )
    return next(
        str(e["digest"])
        for e in child["below"]
        if e["kind"] == "referrer" and wanted in ("", e.get("annotations", {}).get("dev.sigstore.bundle.predicateType"))
    )


def finds(stage: Stage, tool: str, name: str) -> str:
    """All that a tool shows of what belongs to an image."""
    commands = {
        "buildx": [("imagetools", "inspect", f"{name}:1")],
        "cosign": [("tree", "--allow-insecure-registry", stage.platform(name))],
        "oras": [("discover", "--plain-http", "--format", "json", stage.platform(name))],
        REGCTL: [(*stage.hosts(), "artifact", "tree", "--digest-tags", f"{name}:1")],
        CRANE: [("manifest", "--insecure", f"{name}:1"), ("ls", "--insecure", name)],
    }
    return "".join(stage.run(tool, *argv) for argv in commands[tool])


def present(stage: Stage, tool: str) -> None:
    if tool != "knarr" and tool not in stage.found:
        pytest.skip(f"{tool} is not on this machine, and Debian does not have it")


@pytest.mark.parametrize("tool", sorted(FINDS))
def test_what_a_tool_finds(stage: Stage, tool: str) -> None:
    present(stage, tool)
    for host, has_api in ((stage.plain, False), (stage.ours, True)):
        expected = {form.lstrip("!") for form in FINDS[tool] if has_api or not form.startswith("!")}
        shown = {form: finds(stage, tool, stage.name(host, form)) for form in FORMS}
        assert {form for form in FORMS if holder(stage, host, form) in shown[form]} == expected


@pytest.mark.parametrize("form", PLACED)
def test_buildx_reads_provenance_and_sbom_in_the_index(stage: Stage, form: str) -> None:
    for host in (stage.plain, stage.ours):
        argv = ("imagetools", "inspect", f"{stage.name(host, form)}:1", "--format")
        provenance = json.loads(stage.run("buildx", *argv, "{{json .Provenance}}"))
        sbom = json.loads(stage.run("buildx", *argv, "{{json .SBOM}}"))
        assert (
            set(provenance)
            == set(sbom)
            == ({"linux/amd64", "linux/arm64"} if form in ("index", "older", "both") else set())
        )


@pytest.mark.parametrize("form", [*PLACED, "signed"])
def test_cosign_reads_what_is_signed_in_its_tag(stage: Stage, form: str) -> None:
    for host in (stage.plain, stage.ours):
        argv = ("download", "attestation", "--allow-insecure-registry", stage.platform(f"{host}/forms/{form}"))
        said = [json.loads(line)["payload"] for line in stage.run("cosign", *argv, ok=False).splitlines()]
        if form == "signed":
            assert "cosign.sigstore.dev/attestation/v1" in json.loads(base64.b64decode(said[0]))["predicateType"]
        else:
            assert not any(said)


@pytest.mark.parametrize("form", FORMS)
def test_cosign_verifies_what_is_signed_and_nothing_else(stage: Stage, form: str) -> None:
    offline = ("--key", "k.pub", "--insecure-ignore-tlog", "--allow-insecure-registry")
    bundle = ("--new-bundle-format", "--trusted-root", "root.json") if form.endswith("bundle") else ()
    kind = "custom" if form.startswith("att-") else SIGNING if form == "sig-bundle" else SLSA
    command = ("verify",) if form == "sig-tag" else ("verify-attestation", *bundle, "--type", kind)
    for host in (stage.plain, stage.ours):
        image = stage.platform(stage.name(host, form))
        assert bool(stage.run("cosign", *command, *offline, image, ok=form in SIGNED)) == (form in SIGNED)


def copy(stage: Stage, tool: str, source: str, target: str) -> None:
    where = (f"{source}:1", f"{target}:1")
    commands: dict[str, tuple[str, ...]] = {
        "buildx": ("imagetools", "create", "-t", where[1], where[0]),
        "cosign": ("copy", "--allow-insecure-registry", "-f", *where),
        "oras": ("cp", "-r", "--from-plain-http", "--to-plain-http", *where),
        REGCTL: (*stage.hosts(), "image", "copy", "--referrers", "--digest-tags", *where),
        CRANE: ("copy", "--insecure", "--all-tags", source, target),
        "skopeo": (
            *("--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"),
            *(f"docker://{one}" for one in where),
        ),
    }
    if tool == "knarr":
        stage.knarr("copy", "-q", *where)
    elif tool == "cosign":
        # cosign 2.5 pushes an index and what is in it at the same time: a registry may refuse it.
        assert any(stage.run(tool, *commands[tool], ok=False) or is_there(stage, target) for _ in range(9))
    else:
        stage.run(tool, *commands[tool], ok=tool != "oras")


def is_there(stage: Stage, name: str) -> bool:
    return "1" in stage.knarr("tags", name, ok=False).split()


@pytest.mark.parametrize("tool", sorted(COPIES))
def test_what_a_tool_copies_there_and_back(stage: Stage, tool: str) -> None:
    present(stage, tool)
    copied = set()
    for image in (*PLACED, "signed"):
        source, there, back = (
            f"{stage.plain}/forms/{image}",
            f"{stage.ours}/{tool}/{image}",
            f"{stage.plain}/{tool}/{image}",
        )
        copy(stage, tool, source, there)
        copy(stage, tool, there, back)
        before = stage.evidence(source)
        after = [kept(stage, place) for place in (there, back)]
        kinds = {form: f"{form[:3]} {name}" for form, name in SIGNED.items()} if image == "signed" else {image: ""}
        for form, kind in kinds.items():
            pieces = before[kind] if kind else set().union(*before.values())
            assert pieces
            if all(pieces <= (found.get(kind, set()) if kind else set().union(*found.values())) for found in after):
                copied.add(form)
    assert COPIES[tool] <= copied <= COPIES[tool] | NEWER.get(tool, set())


def kept(stage: Stage, name: str) -> dict[str, set[tuple[str, ...]]]:
    """The evidence at a copy; none where there is no copy."""
    return stage.evidence(name) if is_there(stage, name) else {}


def test_knarr_reads_a_statement_that_oras_attached(stage: Stage) -> None:
    name = f"{stage.plain}/forms/older"
    subject = {"name": "_", "digest": {"sha256": stage.image[0].partition(":")[2]}}
    said = {"_type": "https://in-toto.io/Statement/v1", "subject": [subject], "predicateType": "https://a.test/b"}
    (stage.work / "said.json").write_text(json.dumps({**said, "predicate": {"tests": "passed"}}))
    kind = "application/vnd.in-toto+json"
    stage.run("oras", "attach", "--plain-http", "--artifact-type", kind, stage.platform(name), f"said.json:{kind}")
    shown = stage.knarr("attest", "show", "--type", "https://a.test/b", "--format", "predicate", f"{name}:1")
    assert json.loads(shown) == {"tests": "passed"}
