"""Make a result's image: its layers, all platforms at once, then its documents."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from knarr.export.assemble import Assembled, Ingredients, assemble
from knarr.export.clock import SECOND, rfc3339
from knarr.export.context import epoch_of
from knarr.export.trees import Layer, LayerForm
from knarr.image.copy import each
from knarr.record import replace
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.attest.statement import Attestation
    from knarr.cache.record import RecordId
    from knarr.export.context import ExportContext, Result
    from knarr.export.options import LayerOptions
    from knarr.export.vertex import Vertex
    from knarr.frontend.request import PlatformResult
    from knarr.spec.config import ImageConfig

OnLayer = Callable[[Layer], None]


def make_image(
    options: LayerOptions,
    result: Result,
    context: ExportContext,
    vertex: Vertex,
    *,
    on_layer: OnLayer | None = None,
) -> tuple[Assembled, tuple[Layer, ...]]:
    """The image, its documents in the store, and its layers, each once.

    `on_layer` is told of every layer as soon as it is ready (from one thread at a time, each once).
    """
    platforms = result.frontend.results
    epochs = [epoch_of(options.epoch, context, found) for found in platforms]
    seen = _Seen(on_layer)
    with vertex.phase("exporting layers"), _rewriting(options, epochs, vertex):

        def layers_of(wanted: tuple[RecordId | None, LayerForm]) -> tuple[Layer, ...]:
            return tuple(map(seen.note, result.trees.layers(*wanted)))

        forms = [_form(options, epoch, found) for found, epoch in zip(platforms, epochs, strict=True)]
        todo = list(zip(result.records, forms, strict=True))
        layers = each(layers_of, todo, scope=context.scope, jobs=len(platforms))
    inline = result.inline or _no_cache
    said = attestations_for(options, result, context)
    ingredients = [
        Ingredients(
            found.platform,
            _with_cache(found.config, inline(number, own)),
            found.base_config,
            own,
            epoch,
            _supplemented(said[number], own, result) if said else (),
        )
        for number, (found, own, epoch) in enumerate(zip(platforms, layers, epochs, strict=True))
    ]
    image = assemble(
        ingredients,
        options,
        context.store,
        now_ns=context.now_ns,
        is_index=bool(said) or makes_index(result, context),
        vertex=vertex,
    )
    return image, tuple(seen.layers.values())


def _supplemented(said: Sequence[Attestation], layers: Sequence[Layer], result: Result) -> tuple[Attestation, ...]:
    """What is said of an image, its SBOM with the layers that files came with."""
    if not any(one.is_core for one in said):
        return tuple(said)
    from knarr.export.supplement import supplemented

    fetcher = result.trees.fetcher()
    return tuple(supplemented(one, layers, fetcher) for one in said)


def _form(options: LayerOptions, epoch: int | None, found: PlatformResult) -> LayerForm:
    base = found.base_config.diff_ids if found.base_config is not None else ()
    return LayerForm(options.compression, base, epoch if options.rewrite else None, options.squash)


def _rewriting(options: LayerOptions, epochs: Sequence[int | None], vertex: Vertex) -> AbstractContextManager[object]:
    """The phase that tells of `rewrite-timestamp`, or a warning that it has nothing to go by."""
    epoch = next((epoch for epoch in epochs if epoch is not None), None)
    if not options.rewrite:
        return nullcontext()
    if epoch is None:
        vertex.warn("rewrite-timestamp changes nothing: there is no SOURCE_DATE_EPOCH")
        return nullcontext()
    shown = rfc3339(epoch * SECOND).replace("T", " ").replace("Z", " +0000 UTC")
    return vertex.phase(f"rewriting layers with source-date-epoch {epoch} ({shown})")


def _no_cache(platform: int, layers: Sequence[Layer]) -> bytes:
    return b""


def _with_cache(config: ImageConfig, records: bytes) -> ImageConfig:
    """`config` with the cache records of this image in it; those of its base are not about it."""
    if not records and not config.extra:
        return config
    from knarr.cache.sharedconfig import INLINE_MEMBER

    if not records and INLINE_MEMBER not in config.extra:
        return config
    extra = {key: value for key, value in config.extra.items() if key != INLINE_MEMBER}
    if records:
        extra[INLINE_MEMBER] = base64.b64encode(records).decode()
    return replace(config, extra=extra)


def makes_index(result: Result, context: ExportContext) -> bool:
    """Whether the image is an index whatever is attested: there are several platforms, or one was asked for."""
    return len(result.records) > 1 or result.frontend.multi_platform or context.settings.multi_platform


def attestations_for(options: LayerOptions, result: Result, context: ExportContext) -> Sequence[Sequence[Attestation]]:
    """The attestations that go into the image, platform by platform; empty when there are none at all.

    Raises:
        UsageError: the image cannot hold what was asked for.
    """
    if not any(result.attestations):
        return ()
    from knarr.export.attestations import attached

    return attached(result, options, is_index=makes_index(result, context))


def metadata(image: Assembled, options: LayerOptions, context: ExportContext) -> dict[str, Any]:
    """What `--metadata-file` says of an image, in BuildKit's words."""
    data: dict[str, Any] = {}
    if not image.is_index:
        data["containerimage.config.digest"] = str(image.configs[0].digest)
    data["containerimage.descriptor"] = image.root.to_json()
    data["containerimage.digest"] = str(image.root.digest)
    if options.names:
        data["image.name"] = ",".join(options.names)
    return data


class _Seen:
    """The layers so far, by digest: platforms may share some."""

    def __init__(self, on_layer: OnLayer | None) -> None:
        self.layers: dict[Digest, Layer] = {}
        self._on_layer = on_layer
        self._lock = threading.Lock()

    def note(self, layer: Layer) -> Layer:
        with self._lock:
            if layer.descriptor.digest not in self.layers:
                self.layers[layer.descriptor.digest] = layer
                if self._on_layer is not None:
                    self._on_layer(layer)
        return layer
