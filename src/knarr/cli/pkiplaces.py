"""What each tool on this machine reads to believe a registry's certificate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from knarr.errors import KnarrError
from knarr.record import record

_DIRECTORIES = (
    ("docker", "/etc/docker/certs.d", True),
    ("podman", "/etc/containers/certs.d", True),
    ("containerd", "/etc/containerd/certs.d", True),
)
_BUILDKITD = "/etc/buildkit/buildkitd.toml"


@record
class Place:
    """The CAs that one tool takes for a registry. `problem`: its files cannot be read as they are."""

    tool: str
    where: str  # the file or directory that was looked at
    cas: tuple[str, ...]
    with_system: bool  # whether it believes the system's CAs as well
    problem: str = ""


def places(netloc: str, environ: Mapping[str, str]) -> Iterator[Place]:
    """The places for `netloc` (`host[:port]`), the system's own CAs first, knarr's view of all of them last."""
    yield Place("system", "/etc/ssl/certs", (), True)
    for tool, base, with_system in _DIRECTORIES:
        yield _of_directory(tool, f"{base}/{netloc}", with_system)
    yield _of_buildkitd(netloc)
    yield _of_knarr(netloc, environ)


def _of_directory(tool: str, directory: str, with_system: bool) -> Place:
    from knarr.remote import certsd, hoststoml
    from knarr.remote.url import Origin

    path = f"{directory}/hosts.toml"
    try:
        if tool == "containerd" and os.path.exists(path):
            found = hoststoml.read(path, Origin("https", os.path.basename(directory), 443))
            cas = tuple(dict.fromkeys(ca for endpoint in found for ca in endpoint.trust.ca))
            return Place(tool, path, cas, bool(cas) and with_system)
        cas = certsd.read(directory).ca
        return Place(tool, directory, cas, bool(cas) and with_system)
    except KnarrError as error:
        return Place(tool, directory, (directory,), with_system, error.message)


def _of_buildkitd(netloc: str) -> Place:
    from knarr.remote import buildkitd

    if not os.path.exists(_BUILDKITD):
        return Place("buildkitd", _BUILDKITD, (), False)
    try:
        table = buildkitd.read(_BUILDKITD).get(netloc)
    except KnarrError as error:
        return Place("buildkitd", _BUILDKITD, (_BUILDKITD,), True, error.message)
    cas = table.trust.ca if table is not None else ()
    return Place("buildkitd", _BUILDKITD, cas, bool(cas))


def _of_knarr(netloc: str, environ: Mapping[str, str]) -> Place:
    """All that `knarr build` and `knarr pull` would put together."""
    from knarr.remote.hosts import Hosts
    from knarr.remote.settings import RegistrySettings

    settings = RegistrySettings.from_environment(environ)
    try:
        trust = Hosts(settings).trust(netloc)
    except KnarrError as error:
        return Place("knarr", ", ".join(settings.hosts_dirs), (netloc,), True, error.message)
    return Place("knarr", ", ".join(settings.hosts_dirs), trust.ca, True)
