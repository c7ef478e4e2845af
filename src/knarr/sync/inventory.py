"""What a place has already, as a file that travels to where bundles are made.

    {"inventory": 1, "blobs": {"sha256:…": ["team/app"]}, "images": {"registry.example/team/app:1": "sha256:…"}}

The list of a bundle has the same members, so a bundle that was loaded serves as an
inventory for the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from knarr.errors import ContentError, UsageError
from knarr.image.closure import Closure
from knarr.record import field, record
from knarr.spec.digest import Digest

_VERSION = 1
_MAX_BYTES = 512 << 20  # a million blobs take about 100 MB


@record
class Inventory:
    """Blobs and the repositories that have them, and images by name."""

    blobs: Mapping[Digest, tuple[str, ...]] = field(default_factory=dict, hash=False)
    images: Mapping[str, Digest] = field(default_factory=dict, hash=False)

    def __or__(self, other: Inventory) -> Inventory:
        """Both together."""
        blobs = dict(self.blobs)
        for digest, places in other.blobs.items():
            blobs[digest] = tuple(dict.fromkeys((*blobs.get(digest, ()), *places)))
        return Inventory(blobs, {**self.images, **other.images})

    def to_json(self) -> dict[str, Any]:
        return {
            "inventory": _VERSION,
            "images": {name: str(digest) for name, digest in sorted(self.images.items())},
            "blobs": {str(digest): list(places) for digest, places in sorted(self.blobs.items())},
        }


def of(closures: Iterable[tuple[str, Closure]]) -> Inventory:
    """The inventory of images, each with its whole name (`registry/repository:tag`)."""
    found = Inventory()
    for name, closure in closures:
        repository = name.partition("@")[0].partition("/")[2].rpartition(":")[0]
        blobs = {blob.digest: (repository,) for blob in closure.blobs}
        blobs.update((digest, (repository,)) for digest in closure.nodes)
        found |= Inventory(blobs, {name: closure.root.digest})
    return found


def read(path: str) -> Inventory:
    """The inventory in a file, be it one of its own or the list of a bundle.

    Raises:
        UsageError: it cannot be read, or is neither.
    """
    try:
        with open(path, "rb") as file:
            data: Any = json.loads(file.read(_MAX_BYTES))
        if data["inventory"] != _VERSION:
            raise UsageError(f"{path}: version {data['inventory']!r} of inventories is not known")
        blobs = {Digest.parse(digest): tuple(map(str, places)) for digest, places in data["blobs"].items()}
        return Inventory(blobs, {str(name): Digest.parse(digest) for name, digest in data["images"].items()})
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError, ContentError) as error:
        raise UsageError(
            f"{path} is no inventory", hint="`knarr bundle inventory` writes one; the .json of a bundle is one, too"
        ) from error
