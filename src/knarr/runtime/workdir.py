"""The working directory of a step, which an image need not have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from knarr import virtual
from knarr.paths import clean, inside, is_below
from knarr.runtime.process import ProcessSpec
from knarr.runtime.users import User


@contextmanager
def made(spec: ProcessSpec, user: User) -> Iterator[None]:
    """Make the working directory when the image lacks it, owned by the user: it stays, as with BuildKit."""
    cwd = clean(spec.cwd)
    covered = any(is_below(cwd, clean(mount.target)) for mount in spec.mounts)
    if cwd != "/" and not covered and not spec.readonly_root:
        root = os.fspath(spec.rootfs)
        path, missing = inside(root, cwd), []
        while path != root and not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            os.mkdir(directory, 0o755)
            virtual.chown(directory, user.uid, user.gid)
    yield
