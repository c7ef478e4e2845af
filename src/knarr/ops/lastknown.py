"""Where the tags of base images led when a registry last told, so that a machine without one can build again.

One small file for each name, below `resolved/` in the state directory. It says nothing of
whether the image is still here: who asks looks at the store.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from knarr.errors import KnarrError
from knarr.spec.descriptor import Descriptor


class LastKnown:
    """The notes in the state directory `root`. Safe from several threads and processes."""

    def __init__(self, root: Path) -> None:
        self._place = root / "resolved"

    def get(self, name: str) -> Descriptor | None:
        """What `name` was, or None when it was never asked for."""
        try:
            with open(self._file(name), encoding="utf-8") as file:
                said = json.load(file)
            return Descriptor.from_json(said["descriptor"]) if said["name"] == name else None
        except (OSError, ValueError, KeyError, TypeError, KnarrError):
            return None

    def note(self, name: str, descriptor: Descriptor) -> None:
        """`name` is `descriptor` now. A note that cannot be written is no failure."""
        if self.get(name) == descriptor.bare():
            return
        file = self._file(name)
        with suppress(OSError):
            self._place.mkdir(mode=0o700, exist_ok=True)
            fresh = file.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps({"name": name, "descriptor": descriptor.bare().to_json()}))
            os.replace(fresh, file)

    def _file(self, name: str) -> Path:
        return self._place / (hashlib.sha256(name.encode()).hexdigest()[:32] + ".json")
