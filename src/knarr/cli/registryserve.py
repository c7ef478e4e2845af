"""`knarr registry serve`: the registry server, in the foreground."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, no_words, parse, usage
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.registry.server import Registry
    from knarr.registry.settings import ServerSettings
    from knarr.remote.repository import Registry as Client

FLAGS = (
    Flag("config", Kind.TEXT, "FILE", "settings in TOML; flags go before them", short="c"),
    Flag("listen", Kind.TEXT, "HOST:PORT", "where to listen (default: 127.0.0.1:5000)", short="l"),
    Flag("tls-cert", Kind.TEXT, "FILE", "the server's certificate, with its chain, in PEM; read again when it changes"),
    Flag("tls-key", Kind.TEXT, "FILE", "the certificate's key"),
    Flag("client-ca", Kind.TEXT, "FILE", "take client certificates of these CAs as logins"),
    Flag("htpasswd", Kind.TEXT, "FILE", "accounts, as `htpasswd -B` writes them; read again when they change"),
    Flag("anonymous-read", Kind.SWITCH, "", "let everybody pull without a login"),
    Flag("no-delete", Kind.SWITCH, "", "refuse to delete"),
    Flag("sparse", Kind.TEXT, "all|indexes|none", "what a manifest may name that was not pushed (default: all)"),
    Flag("metrics", Kind.SWITCH, "", "answer Prometheus at /metrics"),
    Flag("log", Kind.SWITCH, "", "write a line of JSON to standard output for each request"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr registry serve --help` prints."""
    return (
        "Usage: knarr registry serve [OPTIONS]\n\n"
        "Serve the store's images, and take new ones, until SIGTERM or Ctrl-C. What builds of this machine have put\n"
        "into the store is only served once it is pushed.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr registry serve ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr registry serve")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr registry serve")
    import asyncio

    from knarr.cli.registrygc import cache_roots
    from knarr.config import Settings
    from knarr.content.store import Store
    from knarr.registry.server import Registry, alone

    settings = settings_of(given)
    log = (lambda line: print(line, flush=True)) if settings.log else None
    store = Store(Settings.from_environment(os.environ).content, durable=True)
    try:
        with alone(store, settings):
            registry = Registry(
                store, settings, tell=say, log=log, roots=lambda: cache_roots(os.environ), client=client
            )
            asyncio.run(_until_told(registry))
    finally:
        store.close()
    return 0


def settings_of(given: Parsed) -> ServerSettings:
    """What the configuration file and the flags say.

    Raises:
        UsageError
    """
    from pathlib import Path

    from knarr.registry.configfile import load
    from knarr.registry.settings import ServerSettings

    settings = ServerSettings()
    if given.text("config"):
        settings = load(Path(given.text("config")), settings)
    return with_flags(settings, given)


def with_flags(settings: ServerSettings, given: Parsed) -> ServerSettings:
    """`settings` with what the flags say otherwise.

    Raises:
        UsageError
    """
    from pathlib import Path

    from knarr.record import replace
    from knarr.registry.certificates import TlsFiles
    from knarr.registry.configfile import listening
    from knarr.registry.settings import SPARSE

    if given.text("listen"):
        host, port = listening(given.text("listen"))
        settings = replace(settings, host=host, port=port)
    if bool(given.text("tls-cert")) != bool(given.text("tls-key")):
        raise UsageError("--tls-cert and --tls-key go together")
    if given.text("tls-cert"):
        settings = replace(settings, tls=TlsFiles(Path(given.text("tls-cert")), Path(given.text("tls-key"))))
    if given.text("client-ca"):
        if settings.tls is None:
            raise UsageError("--client-ca needs TLS", hint="give --tls-cert and --tls-key")
        settings = replace(settings, tls=replace(settings.tls, client_ca=Path(given.text("client-ca"))))
    if given.text("sparse", settings.sparse) not in SPARSE:
        raise UsageError(f"--sparse={given.text('sparse')}: not one of {', '.join(SPARSE)}")
    auth = settings.auth
    if given.text("htpasswd"):
        auth = replace(auth, htpasswd=Path(given.text("htpasswd")))
    if given.switch("anonymous-read"):
        auth = replace(auth, anonymous_read=True)
    return replace(
        settings,
        auth=auth,
        sparse=given.text("sparse", settings.sparse),
        delete=settings.delete and not given.switch("no-delete"),
        metrics=settings.metrics or given.switch("metrics"),
        log=settings.log or given.switch("log"),
    )


def client() -> Client:
    """What asks upstreams: with the trust and the logins that builds of this user have, and less patience."""
    from knarr.record import replace
    from knarr.remote.repository import Registry as Client
    from knarr.remote.settings import RegistrySettings, RetryBudget
    from knarr.scope import Scope
    from knarr.session.dockerconfig import DockerConfig

    settings = RegistrySettings.from_environment(os.environ)
    settings = replace(
        settings, retry=RetryBudget(attempts=2, silent_attempts=1), dial_timeout_s=5.0, read_timeout_s=20.0
    )
    return Client(settings, DockerConfig.from_environment(os.environ).credentials, scope=Scope())


async def _until_told(registry: Registry) -> None:
    """Serve until SIGINT or SIGTERM."""
    import asyncio
    import signal

    serving = asyncio.current_task()
    assert serving is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)

    try:
        await registry.serve(lambda: introduce(registry))
    except asyncio.CancelledError:
        say("stopped")


def introduce(registry: Registry) -> None:
    """Tell where it serves, and whom it lets do what they like."""
    scheme = "https" if registry.settings.tls else "http"
    host = registry.settings.host
    shown = f"[{host}]" if ":" in host else host
    say(f"serving {scheme}://{shown}:{registry.port}/v2/")
    if registry.is_open and not host.startswith(("127.", "::1", "localhost")):
        say("warning: whoever reaches this address may push and delete; --htpasswd asks for a login")


def say(line: str) -> None:
    """Tell the operator."""
    print(line, file=sys.stderr, flush=True)
