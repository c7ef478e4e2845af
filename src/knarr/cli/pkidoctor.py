"""`knarr pki doctor`: dial a registry, and say which file on this machine makes its certificate believed, or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from knarr.cli.flags import parse, usage
from knarr.cli.pkicommon import HELP
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.cli.pkiplaces import Place
    from knarr.pki.examine import Shown

FLAGS = (HELP,)


def help_text(word: str) -> str:
    """What `knarr pki doctor --help` prints."""
    return (
        "Usage: knarr pki doctor HOST[:PORT]\n\n"
        "Dial a registry and show the certificates it has, then try them against what each tool on this machine\n"
        "reads: docker, podman, containerd, buildkitd, the system and knarr. The exit status is 1 when one of those\n"
        f"that speak of this registry is wrong, or knarr does not believe it.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr pki doctor ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr pki doctor")
    if given.switch("help"):
        print(help_text(word))
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr pki doctor needs a registry", hint="write knarr pki doctor HOST[:PORT]")
    from knarr.cli.pkiplaces import places
    from knarr.pki import examine
    from knarr.remote.url import split_host

    netloc = given.words[0]
    host, port = split_host(netloc)
    shown = examine.look(host, port or 443)
    for line in _chain(shown):
        print(line)
    wrong = sum([_tell(place, host, port or 443) for place in places(netloc, os.environ)])
    return 1 if wrong else 0


def _chain(shown: Shown) -> list[str]:
    lines = [f"{shown.host}:{shown.port} answers with {shown.protocol}"]
    for number, certificate in enumerate(shown.chain):
        lines.append(f"  {number}  {certificate.subject}")
        lines.append(f"     signed by {certificate.issuer}")
        lines.append(f"     holds from {certificate.not_before} to {certificate.not_after}")
        if number == 0:
            lines.append(f"     for {', '.join(certificate.names) or 'no name at all'}")
    return lines


def _tell(place: Place, host: str, port: int) -> bool:
    """Print what one tool would make of it; whether that is wrong."""
    from knarr.pki import examine

    if not place.cas and not place.with_system:
        print(f"-         {place.tool:<10}  says nothing of it: {place.where}")
        return False
    problem = place.problem or examine.verify(host, port, place.cas, with_system=place.with_system)
    is_private = place.tool == "system" and bool(problem)  # as it should be, where another place knows the CA
    print(f"{'no' if is_private else 'WRONG' if problem else 'ok':<8}  {place.tool:<10}  {_files(place)}")
    if problem:
        print(f"{'':<8}  {'':<10}  {problem}")
    if problem and place.tool == "knarr" and not place.cas:
        print(f"{'':<8}  {'':<10}  `knarr pki trust install {host} --ca FILE` lets every tool believe a CA")
    return bool(problem) and not is_private


def _files(place: Place) -> str:
    return ", ".join(place.cas) or place.where
