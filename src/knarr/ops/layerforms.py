"""The forms that a record's layer may have: its own blob, and others that were made of it for an export.

Other forms are notes in the record's history, so that the next export finds them
and garbage collection leaves them. Each has a diffID of its own: that of an eStargz
layer counts its table, and one whose times were cut down is another tar. Most builds
have no other form, and do not load this.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from knarr.cache.record import Record
from knarr.ops.blobs import Packed
from knarr.record import replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.layer.compress import Compression

_UNCOMPRESSED = "containerd.io/uncompressed"  # containerd's word for the diffID in an annotation; in our notes only


def key(compression: Compression, name: str) -> str:
    """What a form is found under; `name` says what was done beyond compressing."""
    written = f"blob:{compression.kind}:{compression.level}"
    return f"{written}:{name}" if name else written


def note(packed: Packed) -> str:
    """A form as it stands in a record's history."""
    return json.dumps(packed.descriptor.with_annotations({_UNCOMPRESSED: str(packed.diff_id)}).to_json())


def kept(known: Record, key: str) -> Packed | None:
    """The form that was noted under `key`."""
    text = known.history.get(key)
    if not text:
        return None
    described = Descriptor.from_json(json.loads(text))
    annotations = dict(described.annotations)
    diff_id = annotations.pop(_UNCOMPRESSED, "")
    return Packed(replace(described, annotations=annotations), Digest.parse(diff_id)) if diff_id else None
