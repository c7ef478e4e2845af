"""Archives that a component's makers publish, fetched into the cache."""

from __future__ import annotations

from collections.abc import Callable

from knarr.errors import RegistryError
from knarr.node.cache import Cache
from knarr.node.components import Component
from knarr.remote.fetchurl import Asked, Download, Restart
from knarr.remote.transport import Transport
from knarr.streams import CHUNK

_TRIES = 5


def called(component: Component, arch: str) -> str:
    """How messages name an archive."""
    return f"component {component.name} {component.version} ({arch})"


def fetch(cache: Cache, transport: Transport, component: Component, arch: str, tell: Callable[[str], None]) -> None:
    """Have the archive for `arch` in the cache. `tell` hears that it comes, once it does.

    Raises:
        RegistryError: its host cannot be reached, or says no (`status`).
        DigestMismatch: another file is there.
        ContentError: no room.
        Cancelled
    """
    sha256 = component.sha256[arch]
    if cache.has(sha256):
        return
    what = called(component, arch)
    asked = Asked(component.address(arch), what)
    with cache.draft(what) as place:
        for _ in range(_TRIES):
            try:
                with (
                    Download(transport, asked) as download,
                    open(place / "archive", "wb") as file,
                    transport.scope.on_cancel(download.abort),
                ):
                    tell(f"fetching {component.name} {component.version} ({arch}){_size(download.size)}")
                    while data := download.read(CHUNK):
                        transport.scope.check()
                        file.write(data)
                break
            except Restart:
                continue
        else:
            raise RegistryError(f"{what}: broke off {_TRIES} times", temporary=True, hint="try again")
        cache.take(place / "archive", sha256, what)


def _size(size: int) -> str:
    return f", {size >> 20} MiB" if size >= 1 << 20 else ""
