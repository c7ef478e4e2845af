"""A trust policy asked about the images of a build: FROM, COPY --from, mounts, frontends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import RegistryError
from knarr.spec.descriptor import Descriptor
from knarr.spec.reference import Reference
from knarr.trust.guard import Guard
from knarr.trust.policy import DOCKER
from knarr.trust.policyfile import read

if TYPE_CHECKING:
    from knarr.remote.repository import Registry


class PolicyApproval:
    """The policy at work in one build. May be used from any thread."""

    def __init__(self, guard: Guard, registry: Callable[[], Registry]) -> None:
        self._guard, self._registry = guard, registry

    @classmethod
    def read(cls, path: str, registry: Callable[[], Registry]) -> PolicyApproval:
        """The policy of a file.

        Raises:
            UsageError: it cannot be used.
        """
        return cls(Guard(read(Path(path))), registry)

    def image(self, reference: Reference, top: Descriptor) -> None:
        """Raises:
        Untrusted: the policy refuses the image.
        RegistryError: its signatures cannot be had. They are at its registry, also when the image is here.
        """
        try:
            self._guard.check(self._registry().repository(reference), top, DOCKER, reference)
        except RegistryError as error:
            raise error.with_context(
                image=reference.familiar, hint=f"{self._guard.policy.file} asks for signatures, which are there"
            ) from None

    def lent(self, reference: Reference) -> None:
        """Raises:
        Untrusted: the policy does not let layouts pass without asking.
        """
        self._guard.check_lent(str(reference))
