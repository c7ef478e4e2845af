"""Where a registry is given the attestations of an image: in its index, as referrers, under tags, or nowhere.

The manifest that runs is the same in all of them. `index` is BuildKit's way; where
a registry refuses it, `auto` takes the next one that it bears, and remembers that for
the next push (`bears/` in the state directory). The order goes from what most tools
find to what every registry takes:

    index        entries of the index, OCI artifacts with a subject
    index-older  entries of the index in BuildKit's older form
    referrers    beside a clean index, by the referrers API or its fallback tag
    tag          a manifest like any other, under `sha256-<hex>.att`
    none         left out, with a warning
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.attest import statement
from knarr.errors import KnarrError
from knarr.export import annotations as notes
from knarr.export.assemble import Beside, Placed
from knarr.export.attestations import Attested, older_config
from knarr.record import replace
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.manifest import EMPTY, encode_index, encode_manifest
from knarr.spec.referrers import entry as entry_of
from knarr.spec.referrers import fallback_tag

if TYPE_CHECKING:
    from knarr.content.store import Store
    from knarr.export.assemble import Assembled
    from knarr.export.options import LayerOptions

AUTO, INDEX, OLDER, REFERRERS, BOTH = "auto", "index", "index-older", "referrers", "both"
TAG, FILE, NONE = "tag", "file", "none"
_TRIED = (INDEX, OLDER, REFERRERS, TAG, NONE)
_BELIEVED_S = 30 * 24 * 3600  # then the registry may have learned more


class Placing:
    """The places for one image's attestations; what they need is made in the store when it is first asked for."""

    def __init__(self, image: Assembled, options: LayerOptions, store: Store, *, is_index: bool) -> None:
        """`is_index`: the image is one without attestations, too."""
        self._image = image
        self._options = options
        self._store = store
        self._is_index = is_index

    def at(self, place: str) -> Placed:
        """The image with its attestations at `place`, its documents in the store."""
        image = self._image
        if place in (INDEX, BOTH):
            return Placed(place, image.root, image.manifests, lists=place == BOTH)
        if place == OLDER:
            return Placed(place, self._index([self._older(one) for one in image.attested]), image.manifests)
        beside: list[Beside] = []
        if place == REFERRERS:
            beside = self._referrers()
        elif place == TAG:
            beside = self._tags()
        return Placed(place, self._bare(), image.manifests, tuple(beside))

    def _bare(self) -> Descriptor:
        """The root without attestations."""
        if not self._is_index:
            return self._image.manifests[0]
        return self._index([])

    def _index(self, entries: Sequence[Descriptor]) -> Descriptor:
        options = self._options
        index = encode_index([*self._image.manifests, *entries], annotations=notes.at(options.annotations, notes.INDEX))
        stored = self._store.put(index.media_type, index.raw)
        return stored.with_annotations(notes.at(options.annotations, notes.INDEX_DESCRIPTOR))

    def _older(self, one: Attested) -> Descriptor:
        config, raw = older_config(one.layers)
        self._store.put(config.media_type, raw)
        manifest = encode_manifest(config, one.layers)
        stored = self._store.put(manifest.media_type, manifest.raw)
        return replace(stored.bare(), platform=one.entry.platform, annotations=one.entry.annotations)

    def _referrers(self) -> list[Beside]:
        found = []
        for one in self._image.attested:
            self._store.put(EMPTY.media_type, b"{}")
            manifest = encode_manifest(EMPTY, one.layers, artifact_type=mediatype.ATTESTATION, subject=one.about.bare())
            stored = self._store.put(manifest.media_type, manifest.raw)
            found.append(Beside(stored.bare(), one.about.digest))
        return found

    def _tags(self) -> list[Beside]:
        return [
            Beside(self._older(one).bare(), one.about.digest, f"{fallback_tag(one.about.digest)}.att")
            for one in self._image.attested
        ]

    def keep(self, placed: Placed, repositories: Sequence[str]) -> None:
        """Give what lies beside the image a name in the store as well, in each of `repositories` ("host/repo")."""
        for one in placed.beside:
            for repository in repositories:
                if one.tag:
                    self._store.tag(one.descriptor, f"{repository}:{one.tag}")
                else:
                    self._list(one, f"{repository}:{fallback_tag(one.subject)}")

    def _list(self, one: Beside, name: str) -> None:
        from knarr.image.successors import read_document
        from knarr.spec.manifest import Index

        entry = entry_of(read_document(self._store, one.descriptor))
        named = self._store.names.get(name)
        known = read_document(self._store, named.descriptor) if named is not None else None
        listed = known.manifests if isinstance(known, Index) else ()
        if all(other.digest != entry.digest for other in listed):
            index = encode_index([*listed, entry])
            self._store.tag(self._store.put(index.media_type, index.raw), name)


def write_files(image: Assembled, store: Store, directory: str) -> None:
    """Write every statement into `directory`, named after its platform and what it says.

    Raises:
        KnarrError: that cannot be done.
    """
    words = {statement.SPDX: "spdx.json", statement.CYCLONEDX: "cdx.json"}
    try:
        os.makedirs(directory, exist_ok=True)
        for one in image.attested:
            platform = str(one.about.platform).replace("/", "_")
            counts: dict[str, int] = {}
            for layer in one.layers:
                kind = layer.annotations.get(statement.PREDICATE_TYPE, "")
                ending = "provenance.json" if kind.startswith(statement.SLSA) else words.get(kind, "intoto.json")
                counts[ending] = counts.get(ending, 0) + 1
                name = f"{platform}.{ending}" if counts[ending] == 1 else f"{platform}.{counts[ending]}.{ending}"
                with open(os.path.join(directory, name), "wb") as file:
                    file.write(store.read(layer.bare()))
    except OSError as error:
        raise KnarrError(f"{error.filename or directory}: {error.strerror}") from error


class Bears:
    """What registries were seen to bear, by host. Safe between processes: a note is written whole or not at all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def order(self, host: str) -> tuple[str, ...]:
        """The places to try at `host`, the one that it took last at first."""
        known = self._known(host)
        return (known, *(place for place in _TRIED if place != known)) if known else _TRIED

    def took(self, host: str, place: str) -> None:
        """Remember that `host` took what was at `place`."""
        if place == (self._known(host) or INDEX):
            return
        path = self._path(host)
        fresh = f"{path}.{os.getpid()}"
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with open(fresh, "w", encoding="utf-8") as file:
                json.dump({"host": host, "place": place, "since_s": int(time.time())}, file)
            os.replace(fresh, path)
        except OSError:
            return  # the next push tries again

    def _known(self, host: str) -> str:
        try:
            with open(self._path(host), encoding="utf-8") as file:
                said = json.load(file)
            place, since_s = said["place"], float(said["since_s"])
        except (OSError, ValueError, TypeError, KeyError):
            return ""
        return place if place in _TRIED and 0 <= time.time() - since_s < _BELIEVED_S else ""

    def _path(self, host: str) -> Path:
        return self._directory / f"{host.replace('/', '_').replace(':', '_')}.json"
