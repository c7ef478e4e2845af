"""What is asked of which image before it is used: a trust policy, as it was read from a file.

A policy maps scopes to requirements, as containers' policy.json does: a scope is an
image, a repository, a namespace, a registry, `*.domain`, or nothing at all. The most
specific scope that fits decides, alone; where none fits the default does, and where
there is no default the image is refused.

    policy = policyfile.read(Path("trust.toml"))
    policy.requirements(DOCKER, reference).items

Files: `policyfile` (our own), `containerspolicy` (policy.json).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from knarr.attest.judge import Wish
from knarr.record import field, record
from knarr.spec.reference import Reference

ACCEPT, REJECT, SIGNED, UNREADABLE = "accept", "reject", "signed", "unreadable"
DOCKER, OCI, OCI_ARCHIVE, DOCKER_ARCHIVE = "docker", "oci", "oci-archive", "docker-archive"


@record
class Requirement:
    """One thing that is asked; all of a scope's must hold. `why`: of what cannot be checked here."""

    kind: str
    wish: Wish = field(default_factory=Wish, hash=False)
    why: str = ""


@record
class Requirements:
    """What is asked of one image, and which words of the file ask it."""

    scope: str
    items: tuple[Requirement, ...]


@record
class Policy:
    """All scopes of a file. The first key is a transport, the second a scope, where "" is the rest."""

    file: str
    scopes: Mapping[str, Mapping[str, tuple[Requirement, ...]]] = field(default_factory=dict, hash=False)
    default: tuple[Requirement, ...] = (Requirement(REJECT),)

    def requirements(self, transport: str, name: Reference | str) -> Requirements:
        """What is asked of an image; `name` is a path for layouts and archives."""
        known = self.scopes.get(transport, {})
        for scope in _scopes(name) if isinstance(name, Reference) else _paths(name):
            if scope in known:
                return Requirements(f"{transport}: {scope}", known[scope])
        if "" in known:
            return Requirements(f"{transport}: everything else", known[""])
        return Requirements("the default", self.default)


def _scopes(name: Reference) -> Iterator[str]:
    """The scopes that fit an image, the most specific first."""
    whole = f"{name.registry}/{name.repository}"
    if name.digest is not None:
        yield f"{whole}@{name.digest}"
    if name.tag:
        yield f"{whole}:{name.tag}"
    parts = whole.split("/")
    for count in range(len(parts), 0, -1):
        yield "/".join(parts[:count])
    labels = name.registry.rpartition(":")[0] or name.registry
    while "." in labels:
        labels = labels.partition(".")[2]
        yield f"*.{labels}"


def _paths(name: str) -> Iterator[str]:
    path = os.path.realpath(name)
    while path != "/":
        yield path
        path = os.path.dirname(path)
