"""`knarr logout`: forget the login for a registry."""

from __future__ import annotations

import os
import sys


def run(argv: list[str]) -> int:
    """Carry out `knarr logout REGISTRY`.

    Raises:
        KnarrError: a file or a helper does not work.
    """
    from argparse import ArgumentParser

    from knarr.cli.login import host_of
    from knarr.session.dockerconfig import DockerConfig

    parser = ArgumentParser(prog="knarr logout", description="Forget the login for a registry.")
    parser.add_argument("registry", nargs="?", default="docker.io", metavar="REGISTRY", help="host[:port]")
    host = host_of(parser.parse_args(argv).registry)
    where = DockerConfig.from_environment(os.environ).erase(host)
    if not where:
        print(f"not logged in to {host}", file=sys.stderr)
        return 0
    print(f"Login to {host} removed from {', '.join(where)}")
    return 0
