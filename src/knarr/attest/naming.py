"""Under which name an image must have been signed, compared with the name it is asked for by.

The rules and their words are those of containers' policy.json. A signature of
cosign's names a repository, without a tag; skopeo's and ours name the tag as well.

    NameRule(REPOSITORY).takes("registry.example/app", "registry.example/app:1.0")  # True

Spec: containers-policy.json(5), "signedIdentity" (containers/image 5.34).
"""

from __future__ import annotations

from knarr.errors import KnarrError
from knarr.record import record
from knarr.spec.reference import Reference

ANY = "any"  # ours: whatever name it has
EXACT, TAG_OR_REPOSITORY, REPOSITORY = "matchExact", "matchRepoDigestOrExact", "matchRepository"
EXACT_REFERENCE, EXACT_REPOSITORY, REMAP = "exactReference", "exactRepository", "remapIdentity"
KINDS = (ANY, EXACT, TAG_OR_REPOSITORY, REPOSITORY, EXACT_REFERENCE, EXACT_REPOSITORY, REMAP)


@record
class NameRule:
    """One rule. `value`: the reference, the repository or the prefix it names; `other`: the prefix that was signed."""

    kind: str = ANY
    value: str = ""
    other: str = ""

    def takes(self, signed: str, now: str) -> bool:
        """Whether an image that is called `now` may have been signed as `signed`."""
        if self.kind == ANY:
            return True
        try:
            claimed, wanted = Reference.parse(signed), Reference.parse(self.wanted(now))
        except KnarrError:
            return False  # a name that is none fits nothing
        same_repository = (claimed.registry, claimed.repository) == (wanted.registry, wanted.repository)
        if self.kind in (REPOSITORY, EXACT_REPOSITORY):
            return same_repository
        if self.kind in (TAG_OR_REPOSITORY, REMAP) and wanted.digest is not None and not wanted.tag:
            return same_repository
        if self.kind in (EXACT, TAG_OR_REPOSITORY, REMAP) and not wanted.tag:
            return False  # `now` says less than a signature can
        return same_repository and claimed.tag == wanted.tag and (wanted.tag != "" or claimed.digest == wanted.digest)

    def wanted(self, now: str) -> str:
        """The name that is asked for, given the one that the image has."""
        if self.kind in (EXACT_REFERENCE, EXACT_REPOSITORY):
            return self.value
        if self.kind == REMAP and (now == self.value or now.startswith((f"{self.value}/", f"{self.value}:"))):
            return self.other + now[len(self.value) :]
        if self.kind == REMAP and now.startswith(f"{self.value}@"):
            return self.other + now[len(self.value) :]
        return now


ANY_NAME = NameRule()
