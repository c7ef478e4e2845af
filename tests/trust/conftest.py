"""An image of two platforms in a layout, with provenance in its index that nobody signed; and keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from knarr.attest.claim import statement
from knarr.attest.keys import LocalKey, PublicKey, make
from knarr.image.layoutrepository import LayoutRepository
from knarr.image.reshape import ATTESTATION_TYPE, EMPTY
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.manifest import Index, Manifest, encode_manifest
from tests.image.universe import Universe

PROVENANCE = "https://slsa.dev/provenance/v1"


class Attested(Universe):
    """The universe of copies, with statements that say something."""

    def attestation(self, about: Manifest, *, subject: bool = True) -> Manifest:
        said = statement(about.descriptor.digest, "app", PROVENANCE, {"subject": subject})
        layer = self.put(mediatype.IN_TOTO, said)
        self.put(mediatype.OCI_EMPTY, b"{}")
        named = about.descriptor.bare() if subject else None
        return self.add(encode_manifest(EMPTY, [layer], artifact_type=ATTESTATION_TYPE, subject=named))


@dataclass
class Stage:
    """A layout with an image, unsigned."""

    path: Path
    place: LayoutRepository
    root: Descriptor
    index: Index
    children: tuple[Descriptor, ...]

    @property
    def name(self) -> str:
        """As a command line calls it."""
        return f"oci:{self.path}:1"

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / digest.replace(":", "/")


@dataclass
class Keys:
    one: LocalKey
    two: LocalKey

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.one.public.key, "one.pub")


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys(LocalKey(make("ecdsa-p256"), "one.key"), LocalKey(make("ed25519"), "two.key"))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    universe = Attested()
    universe.tags.clear()  # nothing hangs on it by a tag, so that tests see their own
    place = LayoutRepository.create(tmp_path / "layout")
    universe.push_to(place, "1")
    children = tuple(child.descriptor.bare() for child in (universe.amd64, universe.arm64))
    return Stage(tmp_path / "layout", place, universe.root, universe.index, children)
