"""The `image` and `registry` outputs: into the own store under its names, and to registries.

Layers go to the registry while later ones are still being compressed. Names are
set last, the registry's before our own: who finds a name finds all of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from knarr.builder import Export
from knarr.errors import UsageError
from knarr.export.assemble import Assembled, Image, alone, assemble, index_over
from knarr.export.context import ExportContext, Result, status, telling
from knarr.export.options import ImageOptions, image_options
from knarr.export.trees import Layer
from knarr.image.copy import MountsOf, copy_blob, copy_graph
from knarr.progress import Status
from knarr.remote.repository import Repository
from knarr.scope import Outcome, Scope
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference

OnLayer = Callable[[Layer], None]


def export_image(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Make the image, store it, push it; returns the response metadata."""
    options = image_options(export)
    if options.push and not options.names:
        raise UsageError("--push needs a name to push to", hint="add -t REGISTRY/NAME:TAG")
    with telling(context, "exporting to image") as vertex, ExitStack() as stack:
        pushes = stack.enter_context(_Pushes(options, result, context, vertex)) if options.push else None
        image = make_image(options, result, context, vertex, on_layer=pushes.layer if pushes else None)
        keep(image, context)
        if pushes is not None:
            pushes.finish(image)
        if options.store:
            _name(image, options, context, vertex)
    return metadata(image, options)


def make_image(
    options: ImageOptions, result: Result, context: ExportContext, vertex: str, *, on_layer: OnLayer | None = None
) -> Image:
    """Pack the layers and assemble the documents of all platforms."""
    epoch = options.epoch if options.epoch is not None else context.settings.source_date_epoch
    images: list[Assembled] = []
    with status(context, vertex, "exporting layers"):
        packed = [_layers(result, record, options, on_layer) for record in result.records]
    for platform, layers in zip(result.frontend.results, packed, strict=True):
        made = assemble(
            platform,
            layers,
            oci=options.oci,
            now_ns=context.now_ns,
            epoch=epoch,
            annotations=options.annotations,
        )
        images.append(made)
        for what, digest in (("manifest", made.manifest.descriptor.digest), ("config", made.manifest.config.digest)):
            with status(context, vertex, f"exporting {what} {digest}"):
                pass
    if len(images) > 1 or result.frontend.multi_platform or context.settings.multi_platform:
        image = index_over(images, oci=options.oci, annotations=options.annotations)
        with status(context, vertex, f"exporting manifest list {image.root.digest}"):
            pass
        return image
    return alone(images[0], options.annotations)


def _layers(result: Result, record: str | None, options: ImageOptions, on_layer: OnLayer | None) -> list[Layer]:
    layers = []
    for layer in result.trees.layers(record, options.compression):
        layers.append(layer)
        if on_layer is not None:
            on_layer(layer)
    return layers


def keep(image: Image, context: ExportContext) -> None:
    """Put the documents of an image into the store."""
    for made in image.images:
        context.store.put(made.manifest.config.media_type, made.config)
        context.store.put(made.manifest.media_type, made.manifest.raw)
    if image.index is not None:
        context.store.put(image.index.media_type, image.index.raw)


def _name(image: Image, options: ImageOptions, context: ExportContext, vertex: str) -> None:
    names = [str(name) for name in options.names]
    if not names:
        # Nameless, but findable: what was built is not lost, and `knarr images` shows it as <none>.
        prefix = options.dangling_prefix or "<none>"
        names = [f"{prefix}@{image.root.digest}"]
    for name in names:
        with status(context, vertex, f"naming to {name}"):
            context.store.tag(image.root, name)


def metadata(image: Image, options: ImageOptions) -> dict[str, Any]:
    """What `--metadata-file` says of an image."""
    data: dict[str, Any] = {}
    if image.index is None:
        data["containerimage.config.digest"] = str(image.images[0].manifest.config.digest)
    root = image.root
    data["containerimage.descriptor"] = root.to_json()
    data["containerimage.digest"] = str(root.digest)
    if options.names:
        data["image.name"] = ",".join(str(name) for name in options.names)
    return data


class _Pushes:
    """The pushes of one image to all its names: layers as they come, the rest in the end."""

    def __init__(self, options: ImageOptions, result: Result, context: ExportContext, vertex: str) -> None:
        self._options = options
        self._context = context
        self._vertex = vertex
        self._fetcher = result.trees.fetcher()
        self._repositories = self._targets()
        self._sent: dict[tuple[str, Digest], Outcome[str]] = {}
        self._remote: dict[Digest, tuple[str, ...]] = {}
        self._scope = Scope(limit=4)  # BuildKit's maxRegistryConcurrency

    def __enter__(self) -> _Pushes:
        self._scope.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._scope.__exit__(kind, error, tb)

    def _targets(self) -> dict[str, Repository]:
        registry = self._context.registry()
        found: dict[str, Repository] = {}
        for name in self._options.names:
            key = f"{name.registry}/{name.repository}"
            if key not in found:
                found[key] = registry.repository(name, scope=self._context.scope)
        return found

    def layer(self, layer: Layer) -> None:
        """Begin to send a layer that is ready."""
        blob = layer.descriptor
        self._remote[blob.digest] = layer.remote
        for key, repository in self._repositories.items():
            if (key, blob.digest) not in self._sent:
                sent = self._scope.attempt(
                    copy_blob, self._fetcher, repository, blob, self._watch, self._mounts_of(key)
                )
                self._sent[key, blob.digest] = sent

    def _mounts_of(self, key: str) -> MountsOf:
        host = key.partition("/")[0]

        def mounts(blob: Descriptor) -> list[str]:
            known = (*self._remote.get(blob.digest, ()), *self._context.store.sources.of(blob.digest))
            siblings = [place.partition("/") for place in known]
            return [path for place, _, path in siblings if place == host and f"{host}/{path}" != key]

        return mounts

    def _watch(self, blob: Descriptor, done: int, how: str) -> None:
        if mediatype.is_layer(blob.media_type):
            finished = how != "moving"
            self._context.sink.send(Status(self._vertex, f"pushing {blob.digest}", done, blob.size, done=finished))

    def finish(self, image: Image) -> None:
        """Wait for the layers, send the documents, set the tags."""
        context = self._context
        with context.scope.on_cancel(self._scope.cancel), status(context, self._vertex, "pushing layers"):
            for outcome in self._sent.values():
                outcome.result()
        for name in self._options.names:
            key = f"{name.registry}/{name.repository}"
            with status(context, self._vertex, f"pushing manifest for {name}@{image.root.digest}"):
                self._documents(image, name, self._repositories[key], key)
            sent = [digest for place, digest in self._sent if place == key]
            context.store.sources.add(key, [*sent, *(made.manifest.config.digest for made in image.images)])

    def _documents(self, image: Image, name: Reference, repository: Repository, key: str) -> None:
        present = _Known(repository, {digest for place, digest in self._sent if place == key})
        for made in image.images:
            copy_blob(self._fetcher, present, made.manifest.config)
            if image.index is not None:
                copy_graph(self._fetcher, present, made.manifest.descriptor, scope=self._context.scope)
        repository.push_manifest(image.root, image.raw, tag="" if self._options.push_by_digest else name.tag)


class _Known:
    """A repository that need not be asked again about blobs it was just sent."""

    def __init__(self, repository: Repository, known: set[Digest]) -> None:
        self._repository = repository
        self._known = known
        self.open = repository.open
        self.push = repository.push

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self._known or self._repository.has(descriptor)
