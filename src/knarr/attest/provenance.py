"""The predicate of SLSA provenance, in BuildKit's build type: v1, and v0.2 of it.

    request = Request("dockerfile.v0", {"target": "app"})
    predicate(Facts(request, capture, …), ProvenanceOptions(mode="min"))   # a dict, members in BuildKit's order

Pure. `mode=min` leaves out what may tell more than a user means to publish: build
arguments and labels, the ids of secrets and agents, the graph and the Dockerfile.
Spec: SLSA provenance v1.0 and v0.2; BuildKit docs/attestations/slsa-definitions.md,
solver/llbsolver/provenance at v0.33.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from knarr.attest import purl
from knarr.attest.capture import Capture, redacted
from knarr.attest.wanted import PREFIX, ProvenanceOptions
from knarr.errors import KnarrError
from knarr.record import field, record

_BLOB = (("ref_type", "blob"),)
BUILD_TYPE_1 = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
BUILD_TYPE_02 = "https://mobyproject.org/buildkit@v1"
DOCKERFILE = "dockerfile.v0"  # BuildKit's name of the Dockerfile frontend
COMPATIBILITY = 30  # of BuildKit's exporters: what images are like that 0.31 and later make
_HOST_ONLY = ("cgroup-parent", "image-resolve-mode", "platform", "cache-imports")
_SCRUBBED = ("build-arg:", "label:")
JSON = dict[str, Any]
Repository = Callable[[str], tuple[str, str] | None]


@record
class Request:
    """What a frontend was asked: its name and its options by BuildKit's names. `inputs`: who made what it was given."""

    frontend: str = ""
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    inputs: Mapping[str, JSON] = field(default_factory=dict, hash=False)


@record
class Facts:
    """Everything that provenance is made of."""

    request: Request
    capture: Capture
    platform: str  # of who builds
    invocation: str
    started: str  # RFC 3339
    finished: str
    root: Request | None = None  # what the caller asked for, where that led to `request` by way of others
    dockerfile_version: str = ""
    config: JSON | None = None  # `buildConfig`
    source: JSON | None = None  # texts, and which line made which step
    layers: JSON | None = None  # by step
    environment: Mapping[str, Any] = field(default_factory=dict, hash=False)  # what the builder's owner adds
    compatibility: int = COMPATIBILITY
    repository: Repository | None = None  # see `told_request`
    is_repeatable: bool = False  # what another run would tell otherwise is left out


def predicate(facts: Facts, options: ProvenanceOptions) -> JSON:
    """The predicate as the version that `options` name has it.

    Raises:
        KnarrError: what was used is not all known, and it has to be.
    """
    complete = not (facts.capture.incomplete or facts.capture.directories)
    if options.complete_materials and not complete:
        raise _incomplete(facts.capture)
    asked = told_request(facts.request, facts.capture, facts.repository)
    parameters, vcs = _parameters(facts, asked)
    told_all = bool(facts.request.frontend)
    if options.mode == "min":
        told_all = not _scrub(parameters) and told_all
    parameters["compatibilityVersion"] = facts.compatibility
    metadata: JSON = {"vcs": vcs} if vcs else {}
    if options.mode == "max":
        metadata |= {key: value for key, value in (("source", facts.source), ("layers", facts.layers)) if value}
    external = {"configSource": asked["configSource"], "request": parameters}
    found = _version_1(facts, options, external, metadata, complete=complete, told_all=told_all)
    if options.version == "v0.2":
        return to_v02(found)
    definition = found["buildDefinition"]
    definition["internalParameters"] = _sorted(definition["internalParameters"])  # Go writes it by way of a map
    return found


def min_v02(predicate: Mapping[str, Any], version: str, *, whole: bool) -> JSON:
    """A predicate as `--metadata-file` has it: v0.2, and, unless `whole`, without the graph and the metadata."""
    found = dict(predicate) if version == "v0.2" else to_v02(predicate)
    if not whole:
        found.pop("buildConfig", None)
        found.pop("metadata", None)
    return found


# --- the request


def told_request(request: Request, capture: Capture, repository: Repository | None = None) -> JSON:
    """A request as it is told: where the Dockerfile was, which frontend, which options.

    `repository` knows the URLs of git: with the part that is meant, and without a subdirectory.
    """
    options = _filtered(request.options)
    key = options.get("contextkey") or ("input:context" if options.get("input:context") else "context")
    config: JSON = {}
    if options.get(key):
        place = options.pop(key)
        config = _place(place, capture, repository) or {"uri": place}
        config["uri"] = redacted(config["uri"])
    if options.get("filename"):
        config["path"] = options.pop("filename")
    told: JSON = {}
    if request.frontend:
        told["frontend"] = request.frontend
    if options:
        told["args"] = dict(sorted(options.items()))
    if request.inputs:
        told["inputs"] = deepcopy(dict(sorted(request.inputs.items())))
    return {"configSource": config, "request": told}


def _filtered(options: Mapping[str, str]) -> dict[str, str]:
    """Options without those that say something of this machine only, and without logins."""
    key = options.get("contextkey") or "context"
    found = {}
    for name, value in options.items():
        if name in _HOST_ONLY or name.startswith(PREFIX):
            continue
        found[name] = redacted(value) if name == key or name.startswith("context:") else value
    return found


def _place(text: str, capture: Capture, repository: Repository | None) -> JSON | None:
    """A remote context among what was used, with what it was then."""
    formatted = repository(text) if repository is not None else None
    shown, plain = formatted or (text, text)
    for used in capture.repositories:
        if redacted(used.url) == redacted(plain):
            return {"uri": shown, "digest": of_commit(used.commit)}
    for file in capture.files:
        if file.url == text:
            return {"uri": text, "digest": {file.digest.algorithm: file.digest.hex}}
    return None


def _parameters(facts: Facts, asked: JSON) -> tuple[JSON, dict[str, str]]:
    capture, told = facts.capture, dict(asked["request"])
    args: dict[str, str] = dict(told.pop("args", {}))
    vcs = {}
    for name in [name for name in args if name.startswith("vcs:")]:
        value = args.pop(name)
        if value:
            vcs[name.removeprefix("vcs:")] = redacted(value) if name == "vcs:source" else value
    inputs = told.pop("inputs", None)
    if args:
        told["args"] = args
    for key, lent in (("secrets", capture.secrets), ("ssh", capture.agents)):
        if lent:
            told[key] = [{"id": id, **({"optional": True} if lent[id] else {})} for id in sorted(lent)]
    if capture.directories:
        told["locals"] = [{"name": name} for name in sorted(capture.directories)]
    if inputs:
        told["inputs"] = inputs
    if facts.root is not None:
        root = told_request(facts.root, capture, facts.repository)
        if root["request"] and root != asked:
            told["root"] = root
    return told, dict(sorted(vcs.items()))


def _scrub(told: JSON) -> bool:
    """Leave out what `mode=min` does not tell; whether that was something."""
    left_out = False
    if "args" in told:
        kept = {name: value for name, value in told["args"].items() if not name.startswith(_SCRUBBED)}
        left_out = len(kept) < len(told["args"])
        told["args"] = kept
        if not kept:
            del told["args"]
    told.pop("secrets", None)
    told.pop("ssh", None)
    for below in (*told.get("inputs", {}).values(), *([told["root"]] if "root" in told else [])):
        left_out |= _scrub(below["request"])
    return left_out


# --- the two versions


def _version_1(
    facts: Facts,
    options: ProvenanceOptions,
    external: JSON,
    metadata: JSON,
    *,
    complete: bool,
    told_all: bool,
) -> JSON:
    definition: JSON = {"buildType": BUILD_TYPE_1}
    used = materials(facts.capture)
    if used:
        definition["resolvedDependencies"] = used
    definition["externalParameters"] = external
    internal: JSON = {"builderPlatform": facts.platform}
    if facts.config is not None and options.mode == "max":
        internal["buildConfig"] = facts.config
    if facts.dockerfile_version:
        internal["dockerfileVersion"] = facts.dockerfile_version
    definition["internalParameters"] = {**internal, **facts.environment}
    told = _times(facts, options)
    told["buildkit_metadata"] = metadata
    if complete and not facts.capture.network:
        told["buildkit_hermetic"] = True
    told["buildkit_completeness"] = {"request": told_all, "resolvedDependencies": complete}
    if options.reproducible:
        told["buildkit_reproducible"] = True
    return {
        "buildDefinition": definition,
        "runDetails": {"builder": {"id": options.builder_id}, "metadata": told},
    }


def _times(facts: Facts, options: ProvenanceOptions) -> JSON:
    """What is another with each run; left out where the same build has to give the same bytes."""
    if options.reproducible or facts.is_repeatable:
        return {}
    return {"invocationId": facts.invocation, "startedOn": facts.started, "finishedOn": facts.finished}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def materials(capture: Capture) -> list[JSON]:
    """What was used, as SLSA names it."""
    found: list[JSON] = []
    for image in capture.images:
        kind = purl.OCI if image.local else purl.DOCKER
        uri = purl.of_image(image.reference, image.platform, kind=kind)
        found.append({"uri": uri, "digest": {image.digest.algorithm: image.digest.hex}})
    for blob in capture.blobs:
        uri = purl.of_image(blob.reference, kind=purl.OCI if blob.local else purl.DOCKER, qualifiers=_BLOB)
        found.append({"uri": uri, "digest": {blob.digest.algorithm: blob.digest.hex}})
    for repository in capture.repositories:
        found.append({"uri": redacted(repository.url), "digest": of_commit(repository.commit)})
    for file in capture.files:
        found.append({"uri": redacted(file.url), "digest": {file.digest.algorithm: file.digest.hex}})
    return found


def of_commit(commit: str) -> dict[str, str]:
    return {"sha256" if len(commit) == 64 else "sha1": commit}


def _incomplete(capture: Capture) -> KnarrError:
    lines = ["provenance materials are incomplete", "", "Uncaptured local sources:"]
    for name in sorted(capture.directories):
        lines += [f"  - {name}", "    reason: local_source"]
    text = "\n".join(lines if capture.directories else lines[:1])
    return KnarrError(text, hint="build from a repository or an archive, or leave out complete-materials=true")


def to_v02(predicate: Mapping[str, Any]) -> JSON:
    """A predicate of version 1 in the form of version 0.2."""
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    external, internal = definition["externalParameters"], dict(definition["internalParameters"])
    metadata = details.get("metadata") or {}
    config = internal.pop("buildConfig", None)
    environment = {("platform" if key == "builderPlatform" else key): value for key, value in internal.items()}
    found: JSON = {"builder": {"id": details["builder"]["id"]}, "buildType": BUILD_TYPE_02}
    if definition.get("resolvedDependencies"):
        found["materials"] = definition["resolvedDependencies"]
    source = {("entryPoint" if key == "path" else key): text for key, text in external["configSource"].items()}
    found["invocation"] = {
        "configSource": source,
        "parameters": external["request"],
        "environment": _sorted(environment),
    }
    if config is not None:
        found["buildConfig"] = config
    names = {"invocationId": "buildInvocationID", "startedOn": "buildStartedOn", "finishedOn": "buildFinishedOn"}
    told: JSON = {new: metadata[old] for old, new in names.items() if old in metadata}
    completeness = metadata.get("buildkit_completeness") or {}
    told["completeness"] = {
        "parameters": completeness.get("request", False),
        "environment": True,
        "materials": completeness.get("resolvedDependencies", False),
    }
    told["reproducible"] = metadata.get("buildkit_reproducible", False)
    told[f"{BUILD_TYPE_02}#metadata"] = metadata.get("buildkit_metadata") or {}
    if metadata.get("buildkit_hermetic"):
        told[f"{BUILD_TYPE_02}#hermetic"] = True
    found["metadata"] = told
    return found
