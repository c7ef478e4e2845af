"""One image with everything that can hang on it: the hardest case of a copy, made by hand.

An index of two platforms, each with an attestation of BuildKit's newer form (it has a
subject), the second platform also with one of the older form (it has none); an SBOM on the
index and one on a platform; a signature of the first SBOM, so a referrer of a referrer;
cosign's tags `.sig` on the index, `.att` on a platform, `.sbom` on the index, and the `.sig`
of that SBOM.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any

from knarr.image.reshape import ATTESTATION_TYPE, EMPTY
from knarr.image.select import REFERENCE_DIGEST, REFERENCE_TYPE
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest, encode_index, encode_manifest
from knarr.spec.platform import Platform
from knarr.spec.referrers import fallback_tag

SBOM, SIGNATURE, COSIGN = "application/spdx+json", "application/x-signature", "application/x-cosign"


@dataclass
class Universe:
    """The content, and what it is called."""

    seed: str = "app"
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    documents: list[Manifest | Index] = field(default_factory=list)
    tags: dict[str, Digest] = field(default_factory=dict)  # digest tags
    referrers: dict[Digest, set[Digest]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.amd64, self.arm64 = (self.platform(f"linux/{name}") for name in ("amd64", "arm64"))
        entries = [self.described(self.amd64, "linux/amd64"), self.described(self.arm64, "linux/arm64")]
        self.attested = [self.attestation(self.amd64), self.attestation(self.arm64)]
        self.old = self.attestation(self.arm64, subject=False)
        about = [*zip(self.attested, (self.amd64, self.arm64), strict=True), (self.old, self.arm64)]
        entries += [self.entry(manifest, subject) for manifest, subject in about]
        self.index = encode_index(entries)
        self.documents.append(self.index)
        self.sbom = self.artifact(SBOM, b'{"sbom": "index"}', self.index)
        self.child_sbom = self.artifact(SBOM, b'{"sbom": "amd64"}', self.amd64)
        self.signature = self.artifact(SIGNATURE, b"signed", self.sbom)
        self.hang(self.index, "sig")
        self.hang(self.arm64, "att")
        self.hang(self.hang(self.index, "sbom"), "sig")

    @property
    def root(self) -> Descriptor:
        return self.index.descriptor.bare()

    @property
    def digests(self) -> set[Digest]:
        return {document.descriptor.digest for document in self.documents}

    def put(self, media_type: str, data: bytes) -> Descriptor:
        self.blobs[Digest.of(data)] = data
        return Descriptor(media_type, Digest.of(data), len(data))

    def platform(self, name: str) -> Manifest:
        os, architecture = name.split("/")
        config = {"os": os, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": []}}
        layers = [self.put(mediatype.OCI_LAYER_GZIP, f"{self.seed} {name} {n}".encode() * 999) for n in range(2)]
        return self.add(encode_manifest(self.put(mediatype.OCI_CONFIG, json.dumps(config).encode()), layers))

    def add(self, document: Manifest) -> Manifest:
        self.documents.append(document)
        if document.subject is not None:
            self.referrers.setdefault(document.subject.digest, set()).add(document.descriptor.digest)
        return document

    def attestation(self, about: Manifest, *, subject: bool = True) -> Manifest:
        statement = {"_type": "https://in-toto.io/Statement/v1", "of": about.descriptor.digest, "subject": subject}
        layer = self.put(mediatype.IN_TOTO, json.dumps(statement).encode())
        if not subject:
            config = self.put(mediatype.OCI_CONFIG, b'{"architecture":"unknown","os":"unknown"}')
            return self.add(encode_manifest(config, [layer]))
        self.put(mediatype.OCI_EMPTY, b"{}")
        bare = about.descriptor.bare()
        return self.add(encode_manifest(EMPTY, [layer], artifact_type=ATTESTATION_TYPE, subject=bare))

    def artifact(self, kind: str, data: bytes, subject: Manifest | Index) -> Manifest:
        self.put(mediatype.OCI_EMPTY, b"{}")
        layer = self.put(kind, self.seed.encode() + data)
        return self.add(encode_manifest(EMPTY, [layer], artifact_type=kind, subject=subject.descriptor.bare()))

    def hang(self, on: Manifest | Index, ending: str) -> Manifest:
        tag = f"{fallback_tag(on.descriptor.digest)}.{ending}"
        layer = self.put(COSIGN, f"{self.seed} {tag}".encode())
        manifest = self.add(encode_manifest(self.put(mediatype.OCI_CONFIG, b"{}"), [layer]))
        self.tags[tag] = manifest.descriptor.digest
        return manifest

    def add_layer(self, size: int) -> Digest:
        """One more artifact on the index, with a layer of `size` bytes; the layer's digest."""
        manifest = self.artifact("application/x-large", bytes(range(256)) * (size // 256), self.index)
        return manifest.layers[0].digest

    def described(self, manifest: Manifest, platform: str) -> Descriptor:
        bare = manifest.descriptor
        return Descriptor(bare.media_type, bare.digest, bare.size, Platform.parse(platform))

    def entry(self, manifest: Manifest, about: Manifest) -> Descriptor:
        bare = manifest.descriptor
        notes = {REFERENCE_TYPE: "attestation-manifest", REFERENCE_DIGEST: str(about.descriptor.digest)}
        return Descriptor(bare.media_type, bare.digest, bare.size, Platform("unknown", "unknown"), notes)

    def push_to(self, place: Any, tag: str) -> None:
        """Store everything in a repository or a layout; the image is called `tag` there."""
        named = {digest: name for name, digest in self.tags.items()}
        for digest, data in self.blobs.items():
            place.push(Descriptor("application/octet-stream", digest, len(data)), io.BytesIO(data))
        for document in self.documents:
            found = document.descriptor
            name = tag if document is self.index else named.get(found.digest, "")
            place.push_manifest(found.bare(), document.raw, tag=name)

    def assert_at(self, place: Any, tag: str) -> None:
        """Everything is in a repository or a layout: each byte, each tag, each list of referrers."""
        assert place.resolve(tag).digest == self.root.digest
        for document in self.documents:
            with place.open(document.descriptor.bare()) as stream:
                assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == document.raw
            listed = {entry.digest for entry in place.predecessors(document.descriptor.bare())}
            assert listed == self.referrers.get(document.descriptor.digest, set())
        for digest, data in self.blobs.items():
            with place.open(Descriptor("application/octet-stream", digest, len(data))) as stream:
                assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == data
        assert {name: place.resolve(name).digest for name in self.tags} == self.tags
