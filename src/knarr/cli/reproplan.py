"""How to build an image again: from the predicate of its provenance to the words of `knarr build`. Pure.

What was pinned is built from again: base images by the digests they had, a remote
context at its commit, the Dockerfile as it was told. What provenance only names (a
directory, a secret) the caller has to give.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from knarr.attest import purl
from knarr.errors import ContentError, KnarrError, UsageError
from knarr.record import record
from knarr.spec.digest import Digest

_FLAGS = {"target": "target", "force-network-mode": "network", "shm-size": "shm-size", "cgroup-parent": "cgroup-parent"}
_LISTS = {"add-hosts": "add-host", "ulimit": "ulimit"}
_SILENT = ("cmdline", "source", "no-cache", "frontend.caps", "contextkey", "dockerfilekey", "multi-platform")


@record
class Plan:
    """`words` for `knarr build`; the remote context, "" where there is none; the Dockerfile's text, if it is told."""

    words: tuple[str, ...]
    context: str
    needs_context: bool
    filename: str
    dockerfile: bytes | None
    notes: tuple[str, ...] = ()


def plan(predicate: Mapping[str, Any]) -> Plan:
    """What to do for a predicate of either version.

    Raises:
        ContentError: it is not what BuildKit's build type has.
        UsageError: another frontend made the image.
    """
    try:
        return _plan(predicate)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ContentError(f"the provenance cannot be read: {error!r}") from error


def _plan(predicate: Mapping[str, Any]) -> Plan:
    if "buildDefinition" in predicate:
        definition = predicate["buildDefinition"]
        external = definition["externalParameters"]
        request, source = external["request"], external["configSource"]
        used = definition.get("resolvedDependencies") or ()
        steps = (definition.get("internalParameters") or {}).get("buildConfig")
        metadata = predicate["runDetails"].get("metadata") or {}
        told = metadata.get("buildkit_metadata") or {}
        is_whole = (metadata.get("buildkit_completeness") or {}).get("request", False)
    else:
        invocation = predicate["invocation"]
        request, source = invocation["parameters"], invocation["configSource"]
        source = {**source, "path": source.get("entryPoint", "")}
        used = predicate.get("materials") or ()
        steps = predicate.get("buildConfig")
        metadata = predicate.get("metadata") or {}
        told = metadata.get("https://mobyproject.org/buildkit@v1#metadata") or {}
        is_whole = (metadata.get("completeness") or {}).get("parameters", False)
    frontend = request.get("frontend", "")
    if frontend not in ("dockerfile.v0", "gateway.v0"):
        raise UsageError(f"the image was made by {frontend or 'a graph'}, not from a Dockerfile")
    notes = (
        [] if is_whole else ["build arguments and labels are not told: give them as they were (--build-arg, --label)"]
    )
    words, more = _options(request.get("args") or {})
    notes += more
    lent = [f"--secret id={one['id']}" for one in request.get("secrets") or () if not one.get("optional")]
    lent += [f"--ssh {one['id']}" for one in request.get("ssh") or () if not one.get("optional")]
    notes += [f"the build was lent something: give {word}" for word in lent]
    for material in used:
        words += _pinned(material)
    infos = (told.get("source") or {}).get("infos") or ()
    text = base64.b64decode(infos[0]["data"]) if infos else None
    context = _context(source)
    return Plan(
        tuple(words),
        context,
        not context and _reads_context(steps),
        source.get("path") or "Dockerfile",
        text,
        tuple(notes),
    )


def _options(args: Mapping[str, str]) -> tuple[list[str], list[str]]:
    words, notes = [], []
    for name, value in sorted(args.items()):
        kind, colon, key = name.partition(":")
        if name in _FLAGS:
            words += [f"--{_FLAGS[name]}", value]
        elif name in _LISTS:
            for one in value.split(","):
                words += [f"--{_LISTS[name]}", one]
        elif colon and kind == "build-arg":
            words += ["--build-arg", f"{key}={value}"]
        elif colon and kind == "label":
            words += ["--label", f"{key}={value}"]
        elif colon and kind == "context":
            if value.startswith(("local:", "input:", "oci-layout:")):
                notes.append(f"the context {key} was lent: give --build-context {key}=…")
            else:
                words += ["--build-context", f"{key}={value}"]
        elif name not in _SILENT and kind not in ("vcs", "local-sessionid", "input-metadata"):
            notes.append(f"the option {name}={value} is left out")
    return words, notes


def _pinned(material: Mapping[str, Any]) -> list[str]:
    uri, digests = str(material.get("uri", "")), material.get("digest") or {}
    if not uri.startswith("pkg:docker/") or "sha256" not in digests:
        return []
    try:
        reference, _ = purl.image_of(uri)
    except KnarrError:
        return []
    if reference.digest is not None:
        return []
    pinned = reference.at(Digest.parse(f"sha256:{digests['sha256']}"))
    return ["--build-context", f"{reference}=docker-image://{pinned}"]


def _context(source: Mapping[str, Any]) -> str:
    """The remote context, at the commit that was built."""
    uri = str(source.get("uri") or "")
    commit = (source.get("digest") or {}).get("sha1")
    if not uri or not commit:
        return uri
    place, _, fragment = uri.partition("#")
    subdir = fragment.partition(":")[2]
    return f"{place}#{commit}" + (f":{subdir}" if subdir else "")


def _reads_context(steps: Mapping[str, Any] | None) -> bool:
    """Whether a step reads the context; where the steps are not told, it may."""
    if not steps:
        return True
    sources = (step["op"].get("Op", {}).get("source", {}) for step in steps.get("llbDefinition") or ())
    return any(source.get("identifier") == "local://context" for source in sources)
