"""Attestations under a tag that others write as well: what somebody has signed there stays.

Spec: cosign 2, "Attestation Specification": one manifest at `sha256-<hex>.att`, a layer for each statement.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from knarr.errors import NotFound
from knarr.export.attestations import older_config
from knarr.image.successors import read_document
from knarr.spec import mediatype
from knarr.spec.manifest import Manifest, decode, encode_manifest

if TYPE_CHECKING:
    from knarr.remote.repository import Repository
    from knarr.spec.descriptor import Descriptor


def push_beside_signed(repository: Repository, raw: bytes, tag: str) -> None:
    """Give the manifest `raw` the name `tag`, with the layers besides that are there and signed.

    Earlier statements that nobody signed are those of an earlier build, and go.

    Raises:
        RegistryError, Cancelled
    """
    made = decode(raw)
    signed = _signed(repository, tag)
    if signed and isinstance(made, Manifest):
        config, text = older_config([*made.layers, *signed])
        repository.push(config, io.BytesIO(text))
        made = encode_manifest(config, [*made.layers, *signed])
    repository.push_manifest(made.descriptor.bare(), made.raw, tag=tag)


def _signed(repository: Repository, tag: str) -> list[Descriptor]:
    try:
        found = read_document(repository, repository.resolve(tag))
    except NotFound:
        return []
    if not isinstance(found, Manifest):
        return []
    return [layer for layer in found.layers if layer.media_type != mediatype.IN_TOTO]
