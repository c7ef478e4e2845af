"""`knarr pki trust`: lay out an authority's certificate for every tool of a machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.pkicommon import DIR, HELP, directory, file
from knarr.errors import KnarrError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.pki.trust import Change, Description, TrustFile

FLAGS = (
    DIR,
    Flag("ca", Kind.TEXT, "FILE", "the CA's certificate (default: ca.pem of the authority)"),
    Flag("client", Kind.TEXT, "DIR", "also a client's cert.pem and key.pem, by which the tools log in"),
    Flag("tool", Kind.LIST, "TOOL", "for this tool only; may be given again (default: those below)", short="t"),
    Flag("root", Kind.TEXT, "DIR", "lay it out below this directory, for an image or another machine (default: /)"),
    HELP,
)
_DEFAULT = ("docker", "podman", "containerd", "system", "knarr")
_IF_THERE = {"buildkitd": "/etc/buildkit", "k3s": "/etc/rancher/k3s"}
_UPDATES = (("update-ca-certificates",), ("update-ca-trust", "extract"))


def help_text(word: str) -> str:
    """What `knarr pki trust --help` prints."""
    return (
        "Usage: knarr pki trust install|remove|show HOST[:PORT]... [OPTIONS]\n"
        "       knarr pki trust kubernetes HOST[:PORT] [OPTIONS]\n\n"
        "Let tools believe the authority when they speak with a registry. install writes the files that docker,\n"
        "podman, containerd (with nerdctl), the system and knarr read, and those of buildkitd and k3s where these\n"
        "are installed; remove takes them away; show says which they are. kubernetes prints a ConfigMap and a\n"
        "DaemonSet that do it on every node.\n\n"
        f"Tools: docker, podman, containerd, buildkitd, k3s, system, knarr.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr pki trust ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr pki trust")
    if given.switch("help"):
        print(help_text(word))
        return 0
    if len(given.words) < 2 or given.words[0] not in ("install", "remove", "show", "kubernetes"):
        raise UsageError("knarr pki trust needs install, remove, show or kubernetes, and a host")
    act, *hosts = given.words
    from knarr.pki import trust

    described = [_describe(given, host) for host in hosts]
    if act == "kubernetes":
        for about in described:
            print(trust.kubernetes(about), end="")
        return 0
    root = Path(given.text("root") or "/")
    planned = [file for about in described for file in trust.plan(about, _tools(given, root))]
    if act == "show":
        for planned_file in planned:
            print(f"{planned_file.tool:<10}  {root / planned_file.path.lstrip('/')}")
        return 0
    changes = trust.install(planned, root) if act == "install" else trust.remove(planned, root)
    _tell(changes, root)
    _update_system(changes, root)
    return 1 if any(change.what == "left alone" for change in changes) else 0


def _describe(given: Parsed, host: str) -> Description:
    from knarr.pki import files
    from knarr.pki.trust import Description
    from knarr.remote.url import split_host

    if "/" in host or not split_host(host)[0]:
        raise UsageError(f"{host!r} is no registry", hint="write host or host:port, as in names of images")
    path = given.text("ca") or str(directory(given, os.environ) / "ca.pem")
    ca = file(path)
    certificates = files.certificates(ca, where=path)
    client = None
    if given.text("client"):
        place = Path(given.text("client"))
        client = (files.read(place / "cert.pem"), files.read(place / "key.pem"))
    return Description(host, files.pem(*certificates), client)


def _tools(given: Parsed, root: Path) -> Sequence[str]:
    if given.list("tool"):
        return given.list("tool")
    there = tuple(tool for tool, place in _IF_THERE.items() if (root / place.lstrip("/")).is_dir())
    return (*_DEFAULT, *there)


def _tell(changes: Sequence[Change], root: Path) -> None:
    for change in changes:
        why = f": {change.why}" if change.why else ""
        print(f"{change.what:<10}  {change.file.tool:<10}  {root / change.file.path.lstrip('/')}{why}")
        if change.what == "left alone" and change.file.block:
            print(_indented(change.file))


def _indented(file: TrustFile) -> str:
    return "\n".join(f"            {line}" for line in (file.header + file.content.decode()).splitlines())


def _update_system(changes: Sequence[Change], root: Path) -> None:
    """The system's bundle is made of single files by a program of the distribution; only this machine's is ours."""
    changed = any(change.file.tool == "system" and change.what in ("written", "removed") for change in changes)
    if not changed or root != Path("/"):
        return
    for argv in _UPDATES:
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        if done.returncode:
            raise KnarrError(f"{argv[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
        return
    raise KnarrError("the system's bundle of CAs was not made anew", hint="install ca-certificates")
