"""`knarr login`: check a login against its registry, then keep it where docker and podman find it, too."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from knarr.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from knarr.remote.settings import RegistrySettings
    from knarr.session.session import Credentials


def run(argv: list[str]) -> int:
    """Carry out `knarr login ARGUMENTS`.

    Raises:
        KnarrError: the login was refused or could not be kept; nothing is stored then.
    """
    options = _parse(argv)
    host = host_of(options.registry)
    login = _ask(options, host)
    asked = _verify(host, login, options)
    from knarr.session.dockerconfig import DockerConfig

    where = DockerConfig.from_environment(os.environ).store(host, login)
    print(f"Login to {host} succeeded; kept in {where}")
    if not asked:
        print(f"warning: {host} answers without a login, so the password was not checked", file=sys.stderr)
    if options.insecure or options.plain_http:
        print(f"hint: builds need the same said in /etc/knarr/certs.d/{host}/hosts.toml", file=sys.stderr)
    return 0


def host_of(text: str) -> str:
    """The registry host in what a user wrote: scheme and closing slash dropped.

    Raises:
        UsageError: there is a repository in it, or it is no host.
    """
    from knarr.spec.reference import Reference

    host = text.removeprefix("https://").removeprefix("http://").rstrip("/")
    if "/" in host:
        raise UsageError(f"{text!r} is not a registry host", hint=f"log in to the whole of {host.partition('/')[0]}")
    if host in ("index.docker.io", "registry-1.docker.io"):
        return "docker.io"
    # The grammar of hosts is the reference's; a name without a dot or a port is only here certain to be a host.
    Reference.parse(f"{host if set(host) & set('.:') or host == 'localhost' else host + ':443'}/x")
    return host


def _parse(argv: list[str]) -> Namespace:
    from argparse import ArgumentParser

    parser = ArgumentParser(prog="knarr login", description="Log in to a registry.")
    parser.add_argument("registry", nargs="?", default="docker.io", metavar="REGISTRY", help="host[:port]")
    parser.add_argument("-u", "--username", default="", metavar="USER")
    parser.add_argument("-p", "--password", metavar="PASS", help="visible to other users of this machine")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    parser.add_argument("--tls-ca", action="append", default=[], metavar="FILE", help="trust this CA for the check")
    parser.add_argument("--insecure", action="store_true", help="do not check the registry's certificate")
    parser.add_argument("--plain-http", action="store_true", help="speak HTTP without TLS")
    options = parser.parse_args(argv)
    if options.password is not None and options.password_stdin:
        parser.error("--password and --password-stdin exclude each other")
    if options.password_stdin and not options.username:
        parser.error("--password-stdin needs --username")
    return options


def _ask(options: Namespace, host: str) -> Credentials:
    """User and password from the options, standard input or the terminal."""
    from knarr.session.session import Credentials

    if options.password is not None:
        print("warning: --password shows the password to others; use --password-stdin", file=sys.stderr)
    password = sys.stdin.read().rstrip("\r\n") if options.password_stdin else options.password
    if (password is None or not options.username) and not sys.stdin.isatty():
        raise UsageError(f"login to {host}: no password given", hint="use --username and --password-stdin")
    user = options.username or input(f"Username for {host}: ").strip()
    if password is None:
        from getpass import getpass

        password = getpass(f"Password for {user} at {host}: ")
    if not user or not password:
        raise UsageError(f"login to {host}: user and password must not be empty")
    return Credentials(user, password)


def _verify(host: str, login: Credentials, options: Namespace) -> bool:
    """Ask the registry; whether it wanted to know who we are."""
    from knarr.remote.repository import Registry

    with Registry(_settings(host, options), lambda _: login) as registry:
        return registry.ping(host)


def _settings(host: str, options: Namespace) -> RegistrySettings:
    from knarr.record import replace
    from knarr.remote.settings import RegistrySettings

    return replace(
        RegistrySettings.from_environment(os.environ),
        extra_ca=tuple(os.path.abspath(path) for path in options.tls_ca),
        insecure=frozenset((host,) if options.insecure else ()),
        plain_http=frozenset((host,) if options.plain_http else ()),
    )
