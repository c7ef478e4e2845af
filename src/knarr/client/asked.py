"""What a build asks of a builder: its exporters and caches, with the places here that they write to and read from.

asked = Asked(open_store).add(request, for_knarr=builder.is_knarr)
SolveRequest(Exporters=asked.exporters, Cache=asked.caches)
asked.finish(response)          # names and indexes, when all blobs have come
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr.client.contents import LentStore
from knarr.client.outputs import FileOutput, TreeOutput
from knarr.content.store import Store
from knarr.errors import ContentError, Unsupported, UsageError
from knarr.export.cacheoptions import cache_target, with_inline
from knarr.export.destination import opened
from knarr.export.options import STDOUT, deletes
from knarr.image.layout import REF_NAME, Layout, named
from knarr.pb.control_pb2 import CacheOptions, CacheOptionsEntry, Exporter
from knarr.record import replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.reference import Reference
from knarr.streams import Writable

if TYPE_CHECKING:
    from knarr.builder import CacheEntry, Export, SolveRequest

OWN_STORE = "store"  # the type of an output that is loaded into knarr's own store
_EXPORT = "export"  # BuildKit's name for the one store that takes an image
_TRUE = ("", "1", "t", "T", "true", "TRUE", "True")


class Asked:
    """The outputs and caches of one request, for one builder."""

    def __init__(self, store: Callable[[], Store]) -> None:
        """`store` opens the own store, for images that are loaded into it."""
        self._store = store
        self.exporters: list[Exporter] = []
        self.caches = CacheOptions()
        self.outputs: dict[int, FileOutput | TreeOutput] = {}
        self.stores: dict[str, LentStore] = {}
        self.skipped: list[str] = []  # caches that could not be read, with the reason
        self._then: list[Callable[[Mapping[str, str]], object]] = []

    def add(self, request: SolveRequest, *, for_knarr: bool) -> Asked:
        """Everything that `request` asks for.

        Raises:
            Unsupported: this builder cannot do it.
            UsageError: two outputs that exclude each other.
        """
        loads = any(export.type == OWN_STORE for export in request.exports)
        for export in request.exports:
            if export.type == "cacheonly":
                continue
            if loads and export.type in ("image", "registry"):  # one image, in the words of the one that is loaded
                export = replace(export, attrs={"oci-mediatypes": "true", **export.attrs})
            if not for_knarr:
                _check(export)
            self._export(export)
        for entry in with_inline(request.cache_to, request.frontend.build_args):
            self._cache_to(entry, for_knarr=for_knarr)
        for entry in request.cache_from:
            self._cache_from(entry)
        return self

    def finish(self, response: Mapping[str, str]) -> None:
        """Everything has come: name it."""
        for act in self._then:
            act(response)

    # --- exporters

    def _export(self, export: Export) -> None:
        number = len(self.exporters)
        attrs = {key: value for key, value in export.attrs.items() if key != "dest"}
        kind, dest = export.type, export.attrs.get("dest", "")
        if kind == "containerd":
            raise Unsupported(
                "type=containerd: a builder elsewhere cannot reach the containerd of this machine",
                hint="load the image (--load), then: knarr copy store:NAME containerd://NAME",
            )
        if kind == "local":
            self.outputs[number] = TreeOutput(dest, deletes(export))
        elif kind in ("oci", "docker", OWN_STORE) and (kind == OWN_STORE or attrs.get("tar", "true") not in _TRUE):
            self._take_blobs(kind, Path(dest))
            kind, attrs = ("oci" if kind == OWN_STORE else kind), {**attrs, "tar": "false"}
        elif kind in ("oci", "docker", "tar"):
            self.outputs[number] = FileOutput(lambda: _file(dest or STDOUT))
        self.exporters.append(Exporter(Type=kind, Attrs=attrs))

    def _take_blobs(self, kind: str, dest: Path) -> None:
        if _EXPORT in self.stores:
            raise UsageError(
                "a builder gives one image as single blobs, and two outputs want them (--load, tar=false)",
                hint="write the others as archives: type=oci,dest=FILE",
            )
        if kind == OWN_STORE:
            store = self._store()
            self.stores[_EXPORT] = LentStore(store.root, store)
            self._then.append(lambda response: _name_in_store(store, response))
            return
        Layout.create(dest)
        self.stores[_EXPORT] = LentStore(dest, Store(dest))
        self._then.append(lambda response: _list_in_layout(dest, response))

    # --- caches

    def _cache_to(self, entry: CacheEntry, *, for_knarr: bool) -> None:
        target = cache_target(entry)
        if target.mounts and not for_knarr:
            raise Unsupported("--cache-to …,mounts=: BuildKit cannot export cache mounts", hint="leave out mounts=")
        attrs = dict(entry.attrs)
        if entry.type == "local":
            place = Path(target.dest)
            layout = Layout.create(place)
            self.stores[f"local:{target.dest}"] = LentStore(place, Store(place))
            self._then.append(lambda response: _list_cache(layout, place, target.tag, target.reset, response))
        self.caches.Exports.append(CacheOptionsEntry(Type=entry.type, Attrs=attrs))

    def _cache_from(self, entry: CacheEntry) -> None:
        attrs = dict(entry.attrs)
        if entry.type == "local":
            place = attrs["src"]
            try:
                attrs["digest"] = attrs.get("digest") or _cache_in(Path(place), attrs.get("tag", "latest"))
            except (ContentError, OSError) as error:
                why = error.message if isinstance(error, ContentError) else error.strerror
                self.skipped.append(f"the cache in {place} was not read: {why}")
                return
            known = self.stores.get(f"local:{place}")
            self.stores[f"local:{place}"] = known or LentStore(Path(place))
        self.caches.Imports.append(CacheOptionsEntry(Type=entry.type, Attrs=attrs))


def _check(export: Export) -> None:
    """BuildKit passes over options that it does not know; those of knarr's own are refused."""
    if export.attrs.get("squash", "false") not in ("false", "0", "f", "F", "FALSE", "False"):
        raise Unsupported(
            "squash: BuildKit cannot join layers",
            hint="use a builder that is `knarr daemon`, or build without --builder",
        )


def _file(dest: str) -> AbstractContextManager[Writable]:
    return opened(dest)


def descriptor_in(response: Mapping[str, str]) -> Descriptor | None:
    """The image that the exporters tell of."""
    text = response.get("containerimage.descriptor", "")
    return Descriptor.from_json(json.loads(base64.b64decode(text))) if text else None


def names_in(response: Mapping[str, str]) -> tuple[str, ...]:
    """The names that the exporters tell of."""
    return tuple(name for name in response.get("image.name", "").split(",") if name)


def _name_in_store(store: Store, response: Mapping[str, str]) -> None:
    root = descriptor_in(response)
    if root is None:
        raise ContentError("the builder does not tell which image it has sent", hint="load an archive: -o type=oci")
    for name in names_in(response):
        store.tag(root.bare(), str(Reference.parse(name).tagged()))


def _list_in_layout(dest: Path, response: Mapping[str, str]) -> None:
    root = descriptor_in(response)
    if root is None:
        raise ContentError("the builder does not tell which image it has sent", hint="take an archive: tar=true")
    _tidy(dest)
    layout = Layout(dest)
    for name in names_in(response):
        layout.add(named(root, str(Reference.parse(name).tagged())))
    if not names_in(response):
        layout.add(root.with_annotations({REF_NAME: "latest"}))  # BuildKit's word for the last one


def _list_cache(layout: Layout, place: Path, tag: str, reset: bool, response: Mapping[str, str]) -> None:
    text = response.get("cache.manifest", "")
    if text:  # an empty result has no cache
        layout.retag(Descriptor.from_json(json.loads(text)), tag)
        if reset:
            from knarr.export.cache import sweep

            sweep(layout, place)
    _tidy(place)


def _tidy(place: Path) -> None:
    """The directory that blobs were written in until they were complete is none of a layout's."""
    try:
        (place / "ingest").rmdir()
    except OSError:
        return  # somebody else writes there


def _cache_in(place: Path, tag: str) -> str:
    found: Mapping[str, Any] = Layout.at(place).entries_by_tag()
    if tag not in found:
        raise ContentError(f"nothing in it is called {tag}")
    return str(found[tag])
