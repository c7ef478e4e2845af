"""What the owner of a daemon adds to the provenance of every build: the members of JSON files in a directory.

Spec: BuildKit's cmd/buildkitd/util.go (loadProvenanceEnv), `provenanceEnvDir` of buildkitd.toml.
"""

from __future__ import annotations

import json
import os
from typing import Any

from knarr.errors import UsageError

DIRECTORY = "/etc/buildkit/provenance.d"
_BUILT_IN = ("buildConfig", "builderPlatform", "platform")


def load(directory: str = "") -> dict[str, Any]:
    """The members of all files `*.json` in `directory` ("": the usual one); nothing where there is no such directory.

    Raises:
        UsageError: a file cannot be read, is no object, or names what is told anyway.
    """
    place = directory or DIRECTORY
    found: dict[str, Any] = {}
    try:
        names = sorted(name for name in os.listdir(place) if name.endswith(".json"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}") from error
    for name in names:
        path = os.path.join(place, name)
        if os.path.isdir(path):
            continue
        try:
            with open(path, "rb") as file:
                data = json.load(file)
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        if not isinstance(data, dict):
            raise UsageError(f"{path}: not a JSON object")
        for key in data:
            if key in _BUILT_IN:
                raise UsageError(f"{path}: {key} is told anyway", hint="choose another name")
            if key in found:
                raise UsageError(f"{path}: {key} is in another file of {place} as well")
        found |= data
    return found
