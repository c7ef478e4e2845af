"""Image references: `registry/repository:tag@digest`, with Docker's defaults applied once, here.

Spec: distribution-spec v1.1, "Pulling manifests"; short names as in
distribution/reference (`busybox` is `docker.io/library/busybox:latest`).
"""

from __future__ import annotations

import re

from knarr.errors import UsageError
from knarr.record import record, replace
from knarr.spec.digest import Digest

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::[0-9]+)?")
DEFAULT_REGISTRY = "docker.io"


@record
class Reference:
    """Where an image is named: a registry host, a repository, and a tag or a digest or both."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference a user wrote. No tag is added: `tagged()` gives `latest` where a tag is needed.

        Raises:
            UsageError: malformed, with what is wrong about it.
        """
        rest, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        first, slash, _ = rest.partition("/")
        if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
            registry, rest = first, rest[len(first) + 1 :]
        else:
            registry = DEFAULT_REGISTRY
        repository, colon, tag = rest.partition(":")
        if registry == "index.docker.io":
            registry = DEFAULT_REGISTRY
        if registry == DEFAULT_REGISTRY and "/" not in repository:
            repository = "library/" + repository
        if not _HOST.fullmatch(registry):
            raise UsageError(f"{text!r} is not an image reference: {registry!r} is not a registry host")
        if repository != repository.lower():
            raise UsageError(
                f"{text!r} is not an image reference: a repository is lower-case", hint=f"write {text.lower()}"
            )
        if not _REPOSITORY.fullmatch(repository):
            raise UsageError(f"{text!r} is not an image reference: {repository!r} is not a repository name")
        if colon and not _TAG.fullmatch(tag):
            raise UsageError(f"{text!r} is not an image reference: {tag!r} is not a tag")
        return cls(registry, repository, tag, digest)

    def __str__(self) -> str:
        """The canonical text: registry always shown."""
        text = f"{self.registry}/{self.repository}"
        if self.tag:
            text += f":{self.tag}"
        return text + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """As a person would write it: docker.io and library/ left out."""
        text = str(self)
        return text.removeprefix("docker.io/").removeprefix("library/") if self.registry == DEFAULT_REGISTRY else text

    @property
    def locator(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag (default `latest`)."""
        return str(self.digest) if self.digest else self.tag or "latest"

    def tagged(self) -> Reference:
        """The same, with `latest` when it names neither a tag nor a digest."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def at(self, digest: Digest) -> Reference:
        """The same name pinned to `digest` (the tag stays, for people)."""
        return replace(self, digest=digest)
