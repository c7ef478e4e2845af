"""`knarr serve`: the daemon and the registry in one process, on one store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli import daemon, registryserve
from knarr.cli.flags import Flag, Kind, Parsed, no_words, parse, usage
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.serve.configfile import Told

_SHARED = ("config", "help", "version")
_OWN = (
    Flag("config", Kind.TEXT, "FILE", "buildkitd.toml, with a table [serve] for the registry", short="c"),
    Flag("registry-name", Kind.LIST, "HOST[:PORT]", "what references call the registry, besides where it listens"),
    Flag(
        "kubernetes", Kind.SWITCH, "", "print manifests that run this in a cluster: `knarr serve --kubernetes --help`"
    ),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def _others(flags: tuple[Flag, ...]) -> tuple[Flag, ...]:
    return tuple(flag for flag in flags if flag.name not in _SHARED)


def help_text() -> str:
    """What `knarr serve --help` prints."""
    return (
        "Usage: knarr serve [OPTIONS]\n\n"
        "Serve BuildKit's API and a registry in one process, on one store: a build that is pushed to the registry is\n"
        "a tag at once, and nothing is sent. Until SIGTERM or Ctrl-C.\n\n"
        f"Options:\n{usage(_OWN)}\n\n"
        f"Of the daemon (more: `knarr daemon --help`):\n{usage(_others(daemon.FLAGS))}\n\n"
        f"Of the registry:\n{usage(_others(registryserve.FLAGS))}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr serve ARGUMENTS`."""
    if any(word in ("--kubernetes", "--kubernetes=true") for word in argv):
        from knarr.cli.servekubernetes import run as print_manifests

        return print_manifests([word for word in argv if word not in ("--kubernetes", "--kubernetes=true")])
    given = parse((*_OWN, *_others(daemon.ALL), *_others(registryserve.FLAGS)), argv, command="knarr serve")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr serve")
    from knarr.serve.configfile import TABLE

    settings = daemon.settings_of(given, apart=TABLE)
    told = _registry(given, settings.config)
    daemon.log_to_stderr(settings)
    from knarr.cli.registrygc import cache_roots
    from knarr.daemon.server import log
    from knarr.serve.both import Both, Surroundings
    from knarr.snapshot.namespace import take_rights

    take_rights(os.environ)
    environ = {**os.environ, "KNARR_ROOT": str(settings.root)}
    around = Surroundings(
        tell=lambda line: log.warning("registry: %s", line),
        log=(lambda line: print(line, flush=True)) if told.registry.log else None,
        roots=lambda: cache_roots(environ),
        client=registryserve.client,
    )
    names = (*told.names, *given.list("registry-name"))
    with Both(settings, told.registry, names=names, surroundings=around, signals=True) as both:
        registryserve.introduce(both.registry)
        daemon.introduce(both.daemon)
        both.wait()
        log.info("stopping server")
    return 0


def _registry(given: Parsed, config: str) -> Told:
    """The registry's settings: flags over the file.

    Raises:
        UsageError
    """
    from knarr.record import replace
    from knarr.serve.configfile import Told, read

    told = read(Path(config)) if config else Told()
    for name in given.list("registry-name"):
        if "/" in name or not name:
            raise UsageError(f"--registry-name {name}: not HOST or HOST:PORT")
    return replace(told, registry=registryserve.with_flags(told.registry, given))
