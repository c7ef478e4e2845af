"""Everything that a node image is made of, in the cache directory: resolved, fetched, or known from before.

What was resolved is remembered by the question: with `offline`, and the cache of an
earlier build, the same answer comes again without a network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from knarr.errors import KnarrError, RegistryError, UsageError
from knarr.node import debian, upstream, wheels
from knarr.node.cache import Cache
from knarr.node.components import Component, ComponentList
from knarr.node.debian import Apt, Package
from knarr.node.wheels import Wheel
from knarr.record import record, replace
from knarr.remote.transport import Transport


@record
class Parts:
    """What there is for one architecture; all of it is in the cache."""

    arch: str
    packages: tuple[Package, ...]
    wheels: tuple[Wheel, ...]
    archives: tuple[Component, ...]


@record
class Sources:
    """Where from. `transport` is made when something is to be fetched by HTTP."""

    cache: Cache
    transport: Callable[[], Transport]
    tell: Callable[[str], None]  # a line for people
    mirror: str = ""  # "": as apt is told
    offline: bool = False


def gather(listed: ComponentList, architectures: Sequence[str], sources: Sources) -> tuple[ComponentList, list[Parts]]:
    """All parts for each architecture, and the list without what was left out.

    Raises:
        KnarrError: something that is not optional cannot be had, or is not what the list says.
    """
    sources.cache.sweep()
    listed = archives(listed, architectures, sources)
    return listed, [
        Parts(arch, _packages(listed, arch, sources), _wheels(listed, arch, sources), listed.archives)
        for arch in architectures
    ]


def archives(listed: ComponentList, architectures: Sequence[str], sources: Sources) -> ComponentList:
    """Have the archives in the cache; gives the list without those that are optional and cannot be reached.

    Raises:
        RegistryError: one that is not optional cannot be reached, or a server says that it is not there.
        DigestMismatch: one is another than the list says.
        UsageError: one is not in the cache, and that is all that may be used.
    """
    kept = []
    for each in listed.components:
        why = "" if each.package else _why_not(each, architectures, sources)
        if why:
            sources.tell(f"left out: {each.name} {each.version}: {why}")
        else:
            kept.append(each)
    return replace(listed, components=tuple(kept))


def _why_not(each: Component, architectures: Sequence[str], sources: Sources) -> str:
    """Why an optional archive cannot be had; nothing when it is in the cache now."""
    for arch in architectures:
        if sources.cache.has(each.sha256[arch]):
            continue
        if sources.offline:
            if each.optional:
                return f"not in the cache for {arch}, and --offline"
            raise _not_cached(f"component {each.name} {each.version} ({arch})", sources)
        try:
            upstream.fetch(sources.cache, sources.transport(), each, arch, sources.tell)
        except RegistryError as error:
            if not each.optional or error.status:
                raise  # who answers with an error has been reached: the list is wrong, and that is to be known
            return error.message.removeprefix(f"{upstream.called(each, arch)}: ")
    return ""


def _packages(listed: ComponentList, arch: str, sources: Sources) -> tuple[Package, ...]:
    wanted = [*listed.system, *(f"{each.package}={each.version}" for each in listed.packages)]
    note = _name(f"packages-{listed.suite}-{arch}", wanted)
    if sources.offline:
        known = tuple(Package(*fields) for fields in sources.cache.recall(note) or ())
        missing = next((each for each in known if not sources.cache.has(each.sha256)), None)
        if not known or missing:
            raise _not_cached(
                f"package {missing.file}" if missing else f"packages of {listed.suite} for {arch}", sources
            )
        return known
    address = sources.mirror or debian.mirror()
    apt = Apt(sources.cache, address, listed.suite, arch)
    packages = apt.resolve(listed)
    lacking = [each for each in packages if not sources.cache.has(each.sha256)]
    if lacking:
        sources.tell(f"fetching {len(lacking)} packages for {arch}, {sum(each.size for each in lacking) >> 20} MiB")
    apt.fetch(listed, packages)
    sources.cache.remember(note, [[each.file, each.sha256, each.size] for each in packages])
    return packages


def _wheels(listed: ComponentList, arch: str, sources: Sources) -> tuple[Wheel, ...]:
    wanted = wheels.requirements()
    note = _name(f"wheels-{listed.python}-{arch}", wanted)
    known = tuple(Wheel(*fields) for fields in sources.cache.recall(note) or ())
    if known and all(sources.cache.has(each.sha256) for each in known):
        return known
    if sources.offline:
        raise _not_cached(f"knarr's libraries for linux/{arch}", sources)
    sources.tell(f"fetching knarr's libraries for {arch}")
    found = wheels.fetch(sources.cache, arch, listed.python, wanted)
    sources.cache.remember(note, [[each.file, each.sha256] for each in found])
    return found


def _name(kind: str, wanted: Sequence[str]) -> str:
    return f"{kind}-{hashlib.sha256(json.dumps(list(wanted)).encode()).hexdigest()[:16]}"


def _not_cached(what: str, sources: Sources) -> KnarrError:
    return UsageError(
        f"{what}: not in {sources.cache.root}, and --offline",
        hint="build once with a network and the same --cache DIR, then carry that directory along",
    )
