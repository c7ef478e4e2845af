"""Containers that go: their own changes, volumes that nobody else has, their names."""

from __future__ import annotations

import os

from knarr.containers.store import Container, Containers
from knarr.containers.volumes import Volumes
from knarr.snapshot import tree


def remove(containers: Containers, container: Container, *, with_volumes: bool) -> None:
    """Remove a container that is held by this process. With `with_volumes`, the anonymous ones go, too."""
    tree.remove(os.fspath(container.path / "tree"))
    if with_volumes:
        volumes = Volumes(containers.root)
        for mount in container.spec.mounts:
            if mount.kind == "volume" and mount.anonymous:
                volumes.remove(mount.source)
    containers.forget(container)
