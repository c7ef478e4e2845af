"""From layers and an image config to documents: config, manifest, and an index where one is wanted.

Pure. Times: a layer's history line says when the layer was made, an empty line
takes the time of the line before, SOURCE_DATE_EPOCH replaces both. The config's
own `created` is its last line's. As BuildKit does it (exporter/containerimage).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from knarr.errors import Bug, UsageError
from knarr.export.options import Annotation
from knarr.export.trees import Layer
from knarr.frontend.request import PlatformResult
from knarr.image.edit import in_words_of
from knarr.spec import mediatype
from knarr.spec.config import History, ImageConfig, encode_config
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest, encode_index, encode_manifest
from knarr.spec.platform import Platform


@dataclass(frozen=True, slots=True)
class Assembled:
    """One platform's image: its documents and the layers below them."""

    platform: Platform
    config: bytes
    manifest: Manifest
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """What is exported: one manifest, or an index over several."""

    images: tuple[Assembled, ...]
    index: Index | None = None

    @property
    def root(self) -> Descriptor:
        return self.index.descriptor if self.index is not None else self.images[0].manifest.descriptor

    @property
    def raw(self) -> bytes:
        return self.index.raw if self.index is not None else self.images[0].manifest.raw


def assemble(
    result: PlatformResult,
    layers: Sequence[Layer],
    *,
    oci: bool,
    now_ns: int,
    epoch: int | None = None,
    annotations: Sequence[Annotation] = (),
) -> Assembled:
    """The config and the manifest of one platform."""
    config = encode_config(finished_config(result, layers, now_ns=now_ns, epoch=epoch))
    kind = mediatype.OCI_CONFIG if oci else mediatype.DOCKER_CONFIG
    described = Descriptor(kind, Digest.of(config), len(config))
    manifest = encode_manifest(
        described,
        [in_words_of(layer.descriptor, oci=oci) for layer in layers],
        oci=oci,
        annotations=_wanted(annotations, "manifest", result.platform),
    )
    return Assembled(result.platform, config, manifest, tuple(layers))


def finished_config(
    result: PlatformResult, layers: Sequence[Layer], *, now_ns: int, epoch: int | None = None
) -> ImageConfig:
    """The image config with its diff IDs and all times filled in.

    Raises:
        Bug: the history does not fit the layers.
    """
    base = len(result.base_config.history) if result.base_config is not None else 0
    history = list(result.config.history[:base])
    below = sum(1 for line in history if not line.empty_layer)
    lines = result.config.history[base:]
    fresh = list(layers[_base_layers(result, layers) :])
    if not history or below != len(layers) - len(fresh):
        history = _padded(history, len(layers) - len(fresh))
    created = format_time(epoch * 10**9 if epoch is not None else now_ns)
    made = [format_time(epoch * 10**9 if epoch is not None else layer.created_ns or now_ns) for layer in fresh]
    times = iter(made)
    last = created if not made or epoch is not None else made[0]
    for line in lines:
        if not line.empty_layer:
            last = next(times, None) or _unfitting(result)
        history.append(replace(line, created=line.created or last))
    if next(times, None) is not None:
        _unfitting(result)
    return replace(
        result.config,
        diff_ids=tuple(layer.diff_id for layer in layers),
        history=tuple(history),
        created=last if lines else result.config.created or created,
    )


def _base_layers(result: PlatformResult, layers: Sequence[Layer]) -> int:
    return min(len(result.base_config.diff_ids), len(layers)) if result.base_config is not None else 0


def _padded(history: list[History], layers: int) -> list[History]:
    """A base whose history does not tell of all its layers gets nameless lines, so that the counts agree."""
    told = sum(1 for line in history if not line.empty_layer)
    return history + [History()] * max(0, layers - told)


def _unfitting(result: PlatformResult) -> str:
    raise Bug(f"the history of {result.platform} does not fit its layers")


def index_over(
    images: Sequence[Assembled], *, oci: bool, epoch: int | None = None, annotations: Sequence[Annotation] = ()
) -> Image:
    """The images under one index, in their order."""
    entries = []
    for image in images:
        about = _wanted(annotations, "manifest-descriptor", image.platform)
        entry = replace(image.manifest.descriptor, platform=image.platform, artifact_type="")
        entries.append(entry.with_annotations(about) if about else entry)
    return Image(tuple(images), encode_index(entries, oci=oci, annotations=_wanted(annotations, "index", None)))


def alone(image: Assembled, annotations: Sequence[Annotation] = ()) -> Image:
    """A single manifest without an index.

    Raises:
        UsageError: an annotation needs an index.
    """
    for annotation in annotations:
        if annotation.level in ("index", "index-descriptor"):
            raise UsageError(
                f"annotation {annotation.key} belongs on an index, but this is one image",
                hint="build for several platforms, or annotate the manifest",
            )
    return Image((image,))


def root_annotations(annotations: Sequence[Annotation], image: Image) -> dict[str, str]:
    """What goes on the descriptor of the result in a layout's index.json."""
    if image.index is not None:
        return _wanted(annotations, "index-descriptor", None)
    return _wanted(annotations, "manifest-descriptor", image.images[0].platform)


def _wanted(annotations: Sequence[Annotation], level: str, platform: Platform | None) -> dict[str, str]:
    return {a.key: a.value for a in annotations if a.level == level and a.platform in (None, platform)}


def format_time(ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds, zeros at the end cut, as Go writes times."""
    seconds, rest = divmod(ns, 10**9)
    fraction = f".{rest:09}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
