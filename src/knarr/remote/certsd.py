"""Certificates in a directory, by docker's pattern: `*.crt` are CAs, `x.cert` and `x.key` a client pair.

Podman reads the same pattern. Spec: docker, "Verify repository client with
certificates"; containers-certs.d(5).
"""

from __future__ import annotations

import os

from knarr.errors import UsageError
from knarr.remote.trust import Trust


def read(directory: str) -> Trust:
    """The trust in `directory`; nothing when it does not exist or may not be read.

    Raises:
        UsageError: a certificate without its key.
    """
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return Trust()
    pairs = []
    for name in names:
        if name.endswith(".cert"):
            key = name.removesuffix(".cert") + ".key"
            if key not in names:
                raise UsageError(f"{directory}/{name}: there is no {key} beside it")
            pairs.append((f"{directory}/{name}", f"{directory}/{key}"))
    return Trust(tuple(f"{directory}/{name}" for name in names if name.endswith(".crt")), tuple(pairs))
