"""The containerd that a command line means by `containerd://`, opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.cli.transfer import Transfer
    from knarr.containerd.client import Containerd
    from knarr.containerd.place import ContainerdPlace
    from knarr.image.spot import Spot
    from knarr.spec.digest import Digest


def namespace_of(text: str, flag: str) -> str:
    """The namespace that `containerd://[NAMESPACE]` names; empty: the usual one.

    Raises:
        UsageError: it names something else.
    """
    start = "containerd://"
    if not text.startswith(start) or "/" in text.removeprefix(start):
        raise UsageError(f"{flag} {text}: not known", hint=f"write {flag} containerd://NAMESPACE, such as k8s.io")
    return text.removeprefix(start)


@contextmanager
def dialled(world: Transfer, namespace: str, *, make: bool, hold: bool = True) -> Iterator[Containerd]:
    """The usual containerd, in `namespace` (empty: the usual one); what is made or looked for is held meanwhile.

    Who only looks does without `hold`.

    Raises:
        NotFound: there is no such namespace, and none is to be made.
        KnarrError: nobody answers.
    """
    from knarr.containerd.client import dial
    from knarr.containerd.lease import leased

    usual = world.parts.settings.containerd_usual
    with dial(usual.address, namespace or usual.namespace) as daemon:
        if make:
            daemon.make_namespace()
        else:
            daemon.need_namespace()
        if not hold:
            yield daemon
            return
        with leased(daemon) as held:
            yield held


@contextmanager
def opened_namespace(world: Transfer, place: Spot, *, make: bool) -> Iterator[ContainerdPlace]:
    """One repository there. Raises as `dialled` does."""
    from knarr.containerd.place import ContainerdPlace

    assert place.reference is not None

    def source_of(digest: Digest) -> str:
        return next(iter(world.store.sources.of(digest)), "")

    name = f"{place.reference.registry}/{place.reference.repository}"
    with dialled(world, place.namespace, make=make) as daemon:
        yield ContainerdPlace(daemon, name, source_of=source_of)
