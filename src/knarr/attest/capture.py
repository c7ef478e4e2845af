"""What a build used, as it is told in provenance: images, repositories, files, directories, and what was lent to it.

Rules for what counts as the same thing twice are BuildKit's
(solver/llbsolver/provenance/capture.go at v0.33).
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from knarr.record import record
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

_HIDDEN = "xxxxx"


@record
class ImageUsed:
    """An image, and where its name led; `local`: it comes from an OCI layout."""

    reference: Reference
    platform: Platform | None
    digest: Digest
    local: bool = False


@record
class RepositoryUsed:
    """A git repository (URL and, behind a `#`, the ref) and the commit."""

    url: str
    commit: str


@record
class BlobUsed:
    """A blob by its digest; `local`: it comes from an OCI layout."""

    reference: Reference
    digest: Digest
    local: bool = False


@record
class FileUsed:
    """What a URL gave."""

    url: str
    digest: Digest


class Capture:
    """What was used for one result. Names only: no secret's value, no file of a directory that was lent."""

    def __init__(self) -> None:
        self.images: list[ImageUsed] = []
        self.blobs: list[BlobUsed] = []
        self.repositories: list[RepositoryUsed] = []
        self.files: list[FileUsed] = []
        self.directories: set[str] = set()
        self.secrets: dict[str, bool] = {}  # id → whether it was optional
        self.agents: dict[str, bool] = {}
        self.network = False  # a step could reach the network
        self.incomplete = False  # something was used of which nothing is known

    def add_image(self, used: ImageUsed) -> None:
        for known in self.images:
            if (known.reference, known.local) == (used.reference, used.local) and known.platform == used.platform:
                return
        self.images.append(used)

    def add_blob(self, used: BlobUsed) -> None:
        if used not in self.blobs:
            self.blobs.append(used)

    def add_repository(self, used: RepositoryUsed) -> None:
        if all(known.url != used.url for known in self.repositories):
            self.repositories.append(used)

    def add_file(self, used: FileUsed) -> None:
        if all(known.url != used.url for known in self.files):
            self.files.append(used)

    def add_secret(self, id: str, *, optional: bool) -> None:
        self.secrets[id] = optional and self.secrets.get(id, True)

    def add_agent(self, id: str, *, optional: bool) -> None:
        self.agents[id or "default"] = optional and self.agents.get(id or "default", True)

    def merge(self, other: Capture) -> None:
        """Add what `other` has."""
        for image in other.images:
            self.add_image(image)
        for blob in other.blobs:
            self.add_blob(blob)
        for repository in other.repositories:
            self.add_repository(repository)
        for file in other.files:
            self.add_file(file)
        self.directories |= other.directories
        for id, optional in other.secrets.items():
            self.add_secret(id, optional=optional)
        for id, optional in other.agents.items():
            self.add_agent(id, optional=optional)
        self.network |= other.network
        self.incomplete |= other.incomplete

    def settle(self) -> None:
        """Put everything in order; an image by digest goes where the same tag is there without one."""
        tagged = {_tag(used.reference) for used in self.images if used.reference.digest is None}
        kept = (used for used in self.images if used.reference.digest is None or _tag(used.reference) not in tagged)
        self.images = sorted(kept, key=lambda used: str(used.reference))
        self.blobs.sort(key=lambda used: str(used.reference))
        self.repositories.sort(key=lambda used: used.url)
        self.files.sort(key=lambda used: used.url)


def of_platform(images: Iterable[ImageUsed], platform: Platform, platforms: Iterable[Platform]) -> Iterable[ImageUsed]:
    """The images that one platform's result may have used: of those that every platform has one of, its own."""
    images, all_platforms = list(images), list(platforms)
    shared = {
        used.reference
        for used in images
        if all(
            any(other.reference == used.reference and other.platform == wanted for other in images)
            for wanted in all_platforms
        )
    }
    return [
        used
        for used in images
        if used.reference not in shared or used.platform is None or _machine(used.platform) == _machine(platform)
    ]


def _machine(platform: Platform) -> tuple[str, str]:
    return platform.os, platform.architecture


def _tag(reference: Reference) -> tuple[str, str, str]:
    return reference.registry, reference.repository, reference.tag or "latest"


def redacted(url: str) -> str:
    """The URL with user and password hidden; what is no URL stays as it is."""
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
    except ValueError:
        return url
    if not parts.scheme or "@" not in parts.netloc:
        return url
    login = (_HIDDEN if user else user or "") + (f":{_HIDDEN}" if password is not None else "")
    if not user and password is None:
        return url
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))
