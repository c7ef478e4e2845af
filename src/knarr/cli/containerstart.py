"""A container is started in the background: its monitor goes on, this command does not wait for the end."""

from __future__ import annotations

from knarr.containers import wire
from knarr.containers.call import failure
from knarr.containers.launch import launch
from knarr.containers.store import Container
from knarr.errors import KnarrError


def start(container: Container) -> None:
    """Start the container; returns when its process runs, or has ended already.

    Raises:
        KnarrError: it could not be started.
    """
    with launch(container, {"do": "start"}) as connection:
        while (frame := wire.receive(connection)) is not None:
            kind, data = frame
            if kind in (wire.STARTED, wire.ENDED):
                return
            if kind == wire.FAILED:
                raise failure(data)
    raise KnarrError(
        f"the monitor of container {container.spec.name} ended before the container ran",
        hint=f"{container.path}/monitor.log may say why",
    )
