"""Attestations of a result in the place that an output has for them.

In an image they are manifests of their own, one for each platform, which the index
lists beside the platforms under `unknown/unknown`; in a directory or a tar they are
files. Documents are BuildKit's (exporter/containerimage/writer.go, exporter/local/fs.go
at v0.33), byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from knarr.attest import purl
from knarr.attest.statement import (
    NAMELESS,
    PREDICATE_TYPE,
    Attestation,
    Subject,
    indented,
    ordered,
    statement,
    subject_of,
)
from knarr.errors import KnarrError, UsageError
from knarr.export.clock import SECOND
from knarr.image.select import REFERENCE_DIGEST, REFERENCE_TYPE
from knarr.record import record, replace
from knarr.spec import gojson, mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import EMPTY, encode_manifest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference
from knarr.streams import CHUNK

if TYPE_CHECKING:
    from knarr.content.target import BlobStore
    from knarr.export.context import Result
    from knarr.export.options import LayerOptions
    from knarr.export.parts import Part
    from knarr.export.vertex import Vertex

_UNKNOWN = Platform("unknown", "unknown")


def attached(result: Result, options: LayerOptions, *, is_index: bool) -> Sequence[Sequence[Attestation]]:
    """What goes into an image of `result`, platform by platform; `is_index`: it is an index anyway.

    Raises:
        UsageError: Docker's media types have no place for it.
    """
    said = result.attestations
    if any(not one.inline_only for of_platform in said for one in of_platform):
        if not options.oci:
            raise UsageError(
                "attestations and oci-mediatypes=false exclude each other",
                hint="leave out oci-mediatypes=false, or build with --provenance=false and without --sbom",
            )
        return said
    return said if options.oci and (is_index or options.inline) else ()


@record
class Attested:
    """An attestation manifest as the index lists it, what it is about, its config and its statements."""

    entry: Descriptor
    about: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        return (self.config, *self.layers)


def attest(
    said: Sequence[Attestation],
    about: Descriptor,
    platform: Platform,
    options: LayerOptions,
    store: BlobStore,
    vertex: Vertex,
) -> Attested:
    """Put the attestation manifest about the manifest `about` into `store`, and what it needs.

    Raises:
        KnarrError: a predicate could not be had, or is not JSON.
    """
    own = [subject_of(purl.of_image(Reference.parse(name), platform), about.digest) for name in options.names if name]
    # in-toto wants a subject, and has a word for one without a name. BuildKit writes none, which no verifier takes.
    own = own or [subject_of(NAMELESS, about.digest)]
    layers = [_layer(one, own, store) for one in ordered(said)]
    config, raw_config = (EMPTY, b"{}") if options.artifact else older_config(layers)
    manifest = encode_manifest(
        config,
        layers,
        artifact_type=mediatype.ATTESTATION if options.artifact else "",
        subject=about.bare() if options.artifact else None,
    )
    with vertex.phase(f"exporting attestation manifest {manifest.descriptor.digest}"):
        store.put(config.media_type, raw_config)
        stored = store.put(manifest.media_type, manifest.raw)
    notes = {REFERENCE_TYPE: "attestation-manifest", REFERENCE_DIGEST: str(about.digest)}
    entry = replace(stored.bare(), platform=_UNKNOWN, annotations=notes)
    return Attested(entry, about, config, tuple(layers))


def _layer(said: Attestation, own: Sequence[Subject], store: BlobStore) -> Descriptor:
    stored = store.put(mediatype.IN_TOTO, statement(said, own))
    return replace(stored.bare(), annotations={PREDICATE_TYPE: said.predicate_type})


def older_config(layers: Sequence[Descriptor]) -> tuple[Descriptor, bytes]:
    """The config of the older form: that of an image for no platform, whose layers are the statements."""
    raw = gojson.dump(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [str(layer.digest) for layer in layers] or None},
        }
    )
    return Descriptor(mediatype.OCI_CONFIG, Digest.of(raw), len(raw)), raw


def write_files(
    said: Sequence[Attestation], part: Part, directory: str, *, prefix: str, suffix: str, now_ns: int
) -> dict[str, str]:
    """Write the statements about the files of `part` into `directory`; name in the result → where it lies now.

    Those that are only for an image's index are left out. `suffix` goes before the extension.

    Raises:
        KnarrError: two of them have the same name, or one cannot be had.
    """
    wanted = ordered([one for one in said if not one.inline_only])
    if not wanted:
        return {}
    own = [Subject(name, {"sha256": digest}) for name, digest in _digests(part.root)]
    files: dict[str, str] = {}
    for one in wanted:
        stem, extension = os.path.splitext(prefix + os.path.basename(one.path))
        name = f"{stem}{suffix}{extension}"
        if name in files:
            raise KnarrError(f"two attestations are called {name}", hint="give one another filename=")
        files[name] = f"{directory}/{len(files)}"
        descriptor = os.open(files[name], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(indented(statement(one, own)))
        os.utime(files[name], ns=(now_ns, now_ns))
    return files


def epoch_or_now(epoch: int | None, now_ns: int) -> int:
    """The time of files that the exporter makes, in nanoseconds."""
    return now_ns if epoch is None else epoch * SECOND


def _digests(root: str) -> Iterator[tuple[str, str]]:
    """Every regular file below `root`, in the order of its names part by part, and its sha256."""
    import hashlib

    todo = [iter(_entries(root, ""))]
    while todo:
        entry = next(todo[-1], None)
        if entry is None:
            todo.pop()
            continue
        path, name, kind = entry
        if kind == "directory":
            todo.append(iter(_entries(path, f"{name}/")))
        elif kind == "file":
            with open(path, "rb", buffering=0) as file:
                digest = hashlib.sha256()
                while data := file.read(CHUNK):
                    digest.update(data)
            yield name, digest.hexdigest()


def _entries(path: str, shown: str) -> list[tuple[str, str, str]]:
    with os.scandir(path) as entries:
        found = [
            (
                entry.path,
                shown + entry.name,
                "directory"
                if entry.is_dir(follow_symlinks=False)
                else "file"
                if entry.is_file(follow_symlinks=False)
                else "",
            )
            for entry in entries
        ]
    return sorted(found, key=lambda one: os.fsencode(one[1]))
