"""Make an image out of layers: config, manifest, and an index where there are several platforms.

Pure but for the store that takes the documents. Members, their order and the
filling of `created` are BuildKit's (exporter/containerimage/writer.go at v0.33),
so that equal layers and configs give equal digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from knarr.content.target import BlobStore
from knarr.errors import Bug
from knarr.export import annotations as notes
from knarr.export.clock import SECOND, nanoseconds, rfc3339
from knarr.export.trees import Layer
from knarr.image.edit import distributable, in_words_of
from knarr.record import record, replace
from knarr.spec import mediatype
from knarr.spec.config import History, ImageConfig, encode_config
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_index, encode_manifest
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.attest.statement import Attestation
    from knarr.export.attestations import Attested
    from knarr.export.options import LayerOptions
    from knarr.export.vertex import Vertex

_COMMENT = "buildkit.exporter.image.v0"  # BuildKit's word for history lines that the exporter had to add


@record
class Ingredients:
    """One platform's image before it is one."""

    platform: Platform
    config: ImageConfig
    base: ImageConfig | None
    layers: tuple[Layer, ...]
    epoch: int | None = None  # seconds since 1970: nothing new is later
    attestations: Sequence[Attestation] = ()


@record
class Assembled:
    """An image that is whole but for its layers: every document is in the store."""

    root: Descriptor  # of the index, or of the only manifest (then with its platform)
    manifests: tuple[Descriptor, ...]
    configs: tuple[Descriptor, ...]
    attested: tuple[Attested, ...] = ()

    @property
    def is_index(self) -> bool:
        return mediatype.is_index(self.root.media_type)


@record
class Beside:
    """An attestation manifest that no index lists: a referrer of `subject`, or what `tag` names."""

    descriptor: Descriptor
    subject: Digest
    tag: str = ""


@record
class Placed:
    """An image with its attestations in one of the places. `lists`: referrers are listed where no API does it."""

    place: str
    root: Descriptor  # what the names lead to
    first: tuple[Descriptor, ...] = ()  # what attestations are about: pushed before them
    beside: tuple[Beside, ...] = ()
    lists: bool = True


def assemble(
    images: Sequence[Ingredients],
    options: LayerOptions,
    store: BlobStore,
    *,
    now_ns: int,
    is_index: bool,
    vertex: Vertex,
) -> Assembled:
    """Put the documents of an image into `store`.

    `now_ns` is the time of the build, for what has no time of its own.

    Raises:
        UsageError: annotations for something that is not there.
    """
    notes.check(options.annotations, [image.platform for image in images], is_index=is_index)
    made, attested = [], []
    for image in images:
        made.append(_image(image, options, store, now_ns, vertex))
        if image.attestations:
            from knarr.export.attestations import attest

            about = made[-1][0]
            attested.append(attest(image.attestations, about, image.platform, options, store, vertex))
    manifests = tuple(manifest for manifest, _ in made)
    configs = tuple(config for _, config in made)
    if not is_index:
        if len(manifests) != 1:
            raise Bug(f"{len(manifests)} platforms and no index")
        return Assembled(manifests[0], manifests, configs)
    entries = [*manifests, *(one.entry for one in attested)]
    index = encode_index(entries, oci=options.oci, annotations=notes.at(options.annotations, notes.INDEX))
    with vertex.phase(f"exporting manifest list {index.descriptor.digest}"):
        root = store.put(index.media_type, index.raw)
    described = root.with_annotations(notes.at(options.annotations, notes.INDEX_DESCRIPTOR))
    return Assembled(described, manifests, configs, tuple(attested))


def _image(
    image: Ingredients, options: LayerOptions, store: BlobStore, now_ns: int, vertex: Vertex
) -> tuple[Descriptor, Descriptor]:
    raw = encode_config(finished_config(image, now_ns))
    kind = mediatype.OCI_CONFIG if options.oci else mediatype.DOCKER_CONFIG
    config = Descriptor(kind, Digest.of(raw), len(raw))
    manifest = encode_manifest(
        config,
        [_public(layer.descriptor, options) for layer in image.layers],
        oci=options.oci,
        annotations=notes.at(options.annotations, notes.MANIFEST, image.platform),
    )
    with vertex.phase(f"exporting manifest {manifest.descriptor.digest}"):
        stored = store.put(manifest.media_type, manifest.raw)
    with vertex.phase(f"exporting config {config.digest}"):
        store.put(kind, raw)
    described = replace(stored, platform=image.platform).with_annotations(
        notes.at(options.annotations, notes.MANIFEST_DESCRIPTOR, image.platform)
    )
    return described, config


def _public(layer: Descriptor, options: LayerOptions) -> Descriptor:
    """A layer's descriptor as a manifest has it: no platform, and annotations only where OCI has them.

    Whoever builds on a layer that its owner would not have distributed has to
    deliver it all the same, unless he says otherwise; then it keeps its `urls`.
    """
    if not options.prefer_nondist:
        layer = distributable(layer)
    converted = in_words_of(layer, oci=options.oci)
    kept = dict(converted.annotations) if options.oci else {}
    return replace(converted.bare(), annotations=kept, urls=converted.urls)


def finished_config(image: Ingredients, now_ns: int) -> ImageConfig:
    """The config with diff IDs, and with times and layers in its history that fit."""
    history = _filled(_aligned(_squashed(image.config.history, image.layers), image.layers), image.layers, now_ns)
    created = image.config.created
    epoch = image.epoch
    if epoch is not None:
        history = _clamped(history, image.base.history if image.base else (), epoch)
        created = _not_after(created, epoch) if created is not None else None
    if created is None:
        created = next((line.created for line in reversed(history) if line.created is not None), None)
    return replace(
        image.config,
        diff_ids=tuple(layer.diff_id for layer in image.layers),
        history=tuple(history),
        created=created,
    )


def _squashed(history: Sequence[History], layers: Sequence[Layer]) -> Sequence[History]:
    """The history where the topmost layer stands for several: their lines have no layer, and a last one has it."""
    count = layers[-1].squashed if layers else 0
    if not count:
        return history
    kept, lines = len(layers) - 1, []
    for line in history:
        kept -= not line.empty_layer
        lines.append(replace(line, empty_layer=True) if kept < 0 else line)
    return [*lines, History(None, f"squash of {count} layers", comment="knarr.exporter.squash.v0")]


def _aligned(history: Sequence[History], layers: Sequence[Layer]) -> list[History]:
    """The history with exactly as many lines that have a layer as there are layers."""
    aligned, used = [], 0
    for line in history:
        if not line.empty_layer and used == len(layers):
            line = replace(line, empty_layer=True)
        used += not line.empty_layer
        aligned.append(line)
    for layer in layers[used:]:
        aligned.append(History(None, layer.description or "created by knarr", comment=_COMMENT))
    return aligned


def _filled(history: list[History], layers: Sequence[Layer], now_ns: int) -> list[History]:
    """The history with a time on every line, if any line or layer has one.

    A line with a layer has the layer's time. The first line without a time takes
    that of the layer after it (the one before may be the base image's, and years
    old), or else the last there is; the others that of the line before them.
    """
    made = iter(layers)
    timed = []
    for line in history:
        layer = None if line.empty_layer else next(made)
        if line.created is None and layer is not None:
            line = replace(line, created=rfc3339(layer.created_ns or now_ns))
        timed.append(line)
    first_gap = next((n for n, line in enumerate(timed) if line.created is None), len(timed))
    known = [line.created for line in timed[first_gap:] if line.created is not None]
    known = known or [line.created for line in reversed(timed) if line.created is not None]
    current = known[0] if known else None
    for n in range(first_gap, len(timed)):
        created = timed[n].created
        if created is None:
            timed[n] = replace(timed[n], created=current)
        else:
            current = created
    return timed


def _clamped(history: list[History], base: Sequence[History], epoch: int) -> list[History]:
    """No new line is later than `epoch`; lines of the base image stay as they are."""
    shared = 0
    while shared < min(len(history), len(base)) and history[shared] == base[shared]:
        shared += 1
    return [
        *history[:shared],
        *(replace(line, created=_not_after(line.created, epoch)) for line in history[shared:]),
    ]


def _not_after(created: str | None, epoch: int) -> str:
    limit = epoch * SECOND
    return rfc3339(limit) if created is None or nanoseconds(created) > limit else created
