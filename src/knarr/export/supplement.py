"""Which layer brought a file, told in the SBOM of an image: only who makes the layers knows.

As in BuildKit's documents (exporter/containerimage/attestations.go at v0.33): a file of
the core SBOM that has no comment yet gets `layerID: sha256:…`, and the document another
creator. What is no SPDX document stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from knarr.attest.statement import SPDX, Attestation
from knarr.errors import LayerInvalid
from knarr.export.trees import Layer
from knarr.record import replace

if TYPE_CHECKING:
    from knarr.content.target import Fetcher


def supplemented(said: Attestation, layers: Sequence[Layer], fetcher: Fetcher) -> Attestation:
    """`said` as it goes into the image of these layers, which `fetcher` opens."""
    if said.predicate_type != SPDX or not said.is_core:
        return said
    return replace(said, predicate=lambda: _with_layers(said.predicate(), layers, fetcher))


def _with_layers(raw: bytes, layers: Sequence[Layer], fetcher: Fetcher) -> bytes:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    if not isinstance(document, dict) or not str(document.get("spdxVersion", "")).startswith("SPDX-2"):
        return raw
    files = [one for one in _listed(document.get("files")) if isinstance(one.get("fileName"), str)]
    wanted = {_clean(one["fileName"]) for one in files if not one.get("comment")}
    found = _layers_of(wanted, layers, fetcher) if wanted else {}
    for one in files:
        layer = found.get(_clean(one["fileName"]))
        if layer is not None and not one.get("comment"):
            one["comment"] = f"layerID: {layer}"
    _sign(document)
    return json.dumps(document, separators=(",", ":")).encode()


def _sign(document: dict[str, Any]) -> None:
    """Name ourselves among those who made the document."""
    from importlib.metadata import version

    about = document.setdefault("creationInfo", {})
    if isinstance(about, dict):
        creators = about.setdefault("creators", [])
        own = f"Tool: knarr-{version('knarr')}"
        if isinstance(creators, list) and own not in creators:
            creators.append(own)


def _layers_of(wanted: set[str], layers: Sequence[Layer], fetcher: Fetcher) -> Mapping[str, str]:
    """The topmost layer that has each path. A file that was deleted above is still that of the layer that made it."""
    from knarr.layer.decompress import open_compressed
    from knarr.layer.tar_read import Reader

    found: dict[str, str] = {}
    for layer in reversed(layers):
        missing = wanted.difference(found)
        if not missing:
            break
        with fetcher.open(layer.descriptor) as stream:
            reader = Reader(open_compressed(stream))
            try:
                for entry in reader:
                    name = _clean(entry.name)
                    if name in missing:
                        found[name] = str(layer.descriptor.digest)
                reader.drain()
            except LayerInvalid as error:
                raise error.with_context(layer=str(layer.descriptor.digest)) from error.__cause__
    return found


def _listed(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _clean(name: str) -> str:
    return name.removeprefix(".").strip("/") if name.startswith(("./", "/")) else name.strip("/")
