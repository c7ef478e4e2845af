"""The document of a shared build cache: which results are known, and by which keys.

*Records* are keys: each has a digest and, per input, the records it was made from.
A record may have *results*, each a chain of *layers*. Blobs are named by digest
only; their descriptors stand in the manifest that has this document as its config.

    config = decode_config(raw)
    raw = encode_config(config)        # equal caches give equal bytes, whatever the order they were built in

Spec: BuildKit v0.33, cache/remotecache/v1 (`application/vnd.buildkit.cacheconfig.v0`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from knarr.errors import ContentError
from knarr.record import record, replace
from knarr.spec import gojson
from knarr.spec.digest import Digest

MEDIA_TYPE = "application/vnd.buildkit.cacheconfig.v0"
INLINE_MEMBER = "moby.buildkit.cache.v0"  # of an image config: base64 of the records' JSON
NO_PARENT = -1
MAX_BYTES = 16 * 2**20  # a cache of 10,000 steps takes about 4 MiB; as Python's objects it is ten times that
_MAX_DEPTH = 1000  # layers of one result: no kernel mounts more than 500


@record
class Layer:
    """One layer blob, on top of the layer at index `parent`."""

    blob: Digest
    parent: int = NO_PARENT


@record
class Result:
    """What a record leads to, and when it was made (RFC 3339). See `Config.layers_of`.

    `layers` are indexes, bottom up. Unless it `is_chain`, only the last one is written: the others are
    those it is on top of.
    """

    layers: tuple[int, ...]
    created: str = ""
    is_chain: bool = False


@record
class Link:
    """That a record was made from another one, or from what `selector` takes of it."""

    record: int
    selector: str = ""


@record
class Record:
    """A key: what an op is, per input the records that lead to it (any one of them will do), and its results."""

    digest: str
    inputs: tuple[tuple[Link, ...], ...] = ()
    results: tuple[Result, ...] = ()


@record
class Config:
    """Layers and records, which name each other by index."""

    layers: tuple[Layer, ...] = ()
    records: tuple[Record, ...] = ()

    def layers_of(self, result: Result) -> tuple[Layer, ...]:
        """The layers of a result, bottom up."""
        if result.is_chain:
            return tuple(self.layers[at] for at in result.layers)
        found = []
        at = result.layers[-1]
        while at != NO_PARENT:
            found.append(self.layers[at])
            at = self.layers[at].parent
        return tuple(reversed(found))


# --- reading


def decode_config(raw: bytes) -> Config:
    """Read the document.

    Raises:
        ContentError: not JSON, not of this form, or an index leads nowhere or in a circle.
    """
    data = _load(raw)
    if not isinstance(data, dict):
        raise ContentError("a cache config must be a JSON object")
    try:
        layers = tuple(
            Layer(Digest.parse(str(one["blob"])), int(one.get("parent", 0))) for one in data.get("layers") or ()
        )
        return _checked(layers, data.get("records") or ())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContentError(f"a cache config has a member that is missing or of the wrong type: {error}") from error


def decode_inline(raw: bytes, layers: Sequence[Digest]) -> Config:
    """Read the records that an image config has in itself; the layers are those of its image, bottom up.

    Raises:
        ContentError: see `decode_config`.
    """
    data = _load(raw)
    stack = tuple(Layer(blob, at - 1) for at, blob in enumerate(layers))
    try:
        return _checked(stack, data or ())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContentError(f"an inline cache has a member that is missing or of the wrong type: {error}") from error


def _load(raw: bytes) -> Any:  # Any: what JSON gives
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"a cache config is not JSON: {error}") from error


def _checked(layers: tuple[Layer, ...], records: Sequence[dict[str, Any]]) -> Config:
    """The config, if every index in it leads somewhere. Any: JSON."""
    _check_layers(layers)
    found = []
    for at, one in enumerate(records):
        inputs = tuple(
            tuple(Link(int(link.get("link", 0)), str(link.get("selector") or "")) for link in links)
            for links in one.get("inputs") or ()
        )
        for link in (link for links in inputs for link in links):
            if not 0 <= link.record < len(records):
                raise ContentError(f"record {at} of a cache config was made from {link.record}, which is not there")
        results = []
        for top in one.get("layers") or ():
            if not 0 <= int(top["layer"]) < len(layers):
                raise ContentError(f"record {at} of a cache config has a layer that is not there")
            results.append(Result((int(top["layer"]),), str(top.get("createdAt") or "")))
        for chain in one.get("chains") or ():
            steps = tuple(int(step) for step in chain["layers"])
            if not all(0 <= step < len(layers) for step in steps):
                raise ContentError(f"record {at} of a cache config has a layer that is not there")
            results.append(Result(steps, str(chain.get("createdAt") or ""), is_chain=True))
        found.append(Record(str(one.get("digest") or ""), inputs, tuple(results)))
    return Config(layers, tuple(found))


def _check_layers(layers: Sequence[Layer]) -> None:
    """That every layer is on top of one that is there, and none on top of itself. In linear time."""
    depths: dict[int, int] = {NO_PARENT: 0}
    for top in range(len(layers)):
        above: list[int] = []
        at = top
        while at not in depths:
            above.append(at)
            at = layers[at].parent
            if not NO_PARENT <= at < len(layers):
                raise ContentError(f"layer {above[-1]} of a cache config is on top of layer {at}, which is not there")
            if len(above) > _MAX_DEPTH:
                raise ContentError(f"layer {top} of a cache config is on top of itself, or of too many others")
        for layer in reversed(above):
            depths[layer] = depths[layers[layer].parent] + 1
            if depths[layer] > _MAX_DEPTH:
                raise ContentError(f"layer {layer} of a cache config is on top of more than {_MAX_DEPTH} others")


# --- writing


def encode_config(config: Config) -> bytes:
    """The document, sorted as BuildKit sorts it."""
    ordered = sort(config)
    layers = [{"blob": layer.blob, **_nonzero("parent", layer.parent)} for layer in ordered.layers]
    return gojson.dump(_filled({"layers": layers, "records": [_record(one) for one in ordered.records]}))


def encode_inline(config: Config) -> bytes:
    """The records alone, sorted; the layers are those of the image they are written into, in its order."""
    return gojson.dump([_record(one) for one in _sorted_records(config.records)])


def _record(one: Record) -> dict[str, Any]:
    layers = [
        {"layer": result.layers[-1], "createdAt": result.created or _NO_TIME}
        for result in one.results
        if not result.is_chain
    ]
    chains = [
        {"layers": list(result.layers), "createdAt": result.created or _NO_TIME}
        for result in one.results
        if result.is_chain
    ]
    inputs = [
        [_filled({"selector": link.selector, "link": link.record}, "link") for link in links] for links in one.inputs
    ]
    return _filled({"layers": layers, "chains": chains, "digest": one.digest, "inputs": inputs})


_NO_TIME = "0001-01-01T00:00:00Z"  # Go's zero time


def _filled(members: dict[str, Any], *always: str) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value or key in always}


def _nonzero(name: str, value: int) -> dict[str, int]:
    return {name: value} if value else {}


def sort(config: Config) -> Config:
    """`config` with layers and records in an order that follows from what they are."""
    order = sorted(range(len(config.layers)), key=lambda at: (config.layers[at].blob, config.layers[at].parent))
    new = {old: at for at, old in enumerate(order)} | {NO_PARENT: NO_PARENT}
    layers = tuple(replace(config.layers[old], parent=new[config.layers[old].parent]) for old in order)
    moved = tuple(
        replace(one, results=tuple(replace(r, layers=tuple(new[at] for at in r.layers)) for r in one.results))
        for one in config.records
    )
    return Config(layers, _sorted_records(moved))


def _sorted_records(records: Sequence[Record]) -> tuple[Record, ...]:
    def rank(at: int) -> tuple[object, ...]:
        one = records[at]
        inputs = [
            (len(links), sorted((link.selector, records[link.record].digest) for link in links)) for links in one.inputs
        ]
        return one.digest, len(one.inputs), inputs, [result.layers for result in one.results]

    order = sorted(range(len(records)), key=rank)
    new = {old: at for at, old in enumerate(order)}
    return tuple(
        replace(
            records[old],
            inputs=tuple(
                tuple(
                    sorted(
                        (Link(new[link.record], link.selector) for link in links),
                        key=lambda one: (one.record, one.selector),
                    )
                )
                for links in records[old].inputs
            ),
        )
        for old in order
    )
