"""The parts of an engine on this user's state directory, for commands that look at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knarr.engine.parts import Parts


@contextmanager
def open_parts(environ: Mapping[str, str], *, with_trees: bool = False) -> Iterator[Parts]:
    """The parts, ready to use; closed on leaving. `with_trees`: also the trees of steps, which have other owners.

    Raises:
        KnarrError: the state directory cannot be made or written.
    """
    from knarr.config import Settings
    from knarr.engine.parts import Parts
    from knarr.remote.settings import RegistrySettings
    from knarr.session.dockerconfig import DockerConfig

    credentials = DockerConfig.from_environment(environ).credentials
    parts = Parts(Settings.from_environment(environ), credentials, lambda: RegistrySettings.from_environment(environ))
    parts.prepare()
    if with_trees:
        from knarr.snapshot.namespace import take_rights

        take_rights(environ)
    try:
        yield parts
    finally:
        parts.close()
