"""The programs that knarr would use: runtimes, path translation, network tools, plugins."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from knarr import linux
from knarr.cli.machine.finding import Finding
from knarr.config import Settings
from knarr.errors import KnarrError
from knarr.runtime import oci, proot

_PLUGIN_DIRS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_NETWORKS = ("/etc/cni/net.d", "/etc/buildkit/cni.json")


def look(settings: Settings) -> Iterator[Finding]:
    """Look at what is installed."""
    yield from _runtimes(settings)
    yield _proot()
    for name in ("pasta", "slirp4netns"):
        path = oci.find(name)
        text = _version(path) if path else "not installed"
        yield Finding("ok", name, text, used="with KNARR_NETWORK=user, for steps of a plain user")
    yield _cni()


def _runtimes(settings: Settings) -> Iterator[Finding]:
    used, failure = "", None
    if linux.may_mount():
        try:
            used = oci.choose(settings.run, settings.oci_runtime).path
        except KnarrError as error:
            failure = error
    for name in ("crun", "runc"):
        path = oci.find(name)
        if path is None:
            yield Finding("ok", name, "not installed", used="no")
            continue
        reason = oci.obstacle(oci.program(path, settings.run)) if linux.may_mount() else "needs mounts"
        text = f"{path}, {_version(path)}" + (f"; {reason}" if reason else "")
        yield Finding("ok", name, text, used="yes" if path == used else "no")
    if failure is not None:
        yield Finding("WRONG", "runtime", failure.message, failure.hint)
    elif used:
        yield Finding("ok", "runtime", used, used="yes")


def _proot() -> Finding:
    path = proot.program()
    needed = not linux.may_mount()
    if path is not None:
        return Finding("ok", "proot", path, used="yes" if needed else "no")
    if needed and os.geteuid():
        return Finding("WRONG", "proot", "not installed", "install it: apt-get install proot")
    hint = "install it for foreign platforms: apt-get install proot" if needed else ""
    return Finding("limited" if needed else "ok", "proot", "not installed", hint)


def _cni() -> Finding:
    plugins = sorted({name for place in _PLUGIN_DIRS if os.path.isdir(place) for name in os.listdir(place)})
    networks = [place for place in _NETWORKS if os.path.exists(place)]
    text = f"{len(plugins)} plugins, networks in {', '.join(networks)}" if networks else f"{len(plugins)} plugins"
    return Finding("ok", "CNI", text if plugins else "no plugins", used="no")


def registries(hosts_dirs: tuple[str, ...], config_files: tuple[Path, ...]) -> Iterator[Finding]:
    """What is known of registries: directories of hosts, and logins by their hosts' names alone."""
    known = {
        name
        for place in hosts_dirs
        if os.path.isdir(place)
        for name in os.listdir(place)
        if os.path.isdir(f"{place}/{name}")
    }
    places = [place for place in hosts_dirs if os.path.isdir(place)]
    text = f"{', '.join(sorted(known)) or 'none'} (in {', '.join(places) or 'no directory'})"
    yield Finding("ok", "registries", text, used="before the defaults")
    logins: set[str] = set()
    broken = False
    for file in config_files:
        try:
            document = json.loads(file.read_bytes())
            logins.update(document.get("auths", {}), document.get("credHelpers", {}))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError, TypeError) as error:
            broken = True
            yield Finding("WRONG", "logins", f"{file} cannot be read: {error}", "mend it, or log in anew")
    if not broken:
        yield Finding("ok", "logins", ", ".join(sorted(logins)) or "none")
    yield _trust()


def _trust() -> Finding:
    import ssl

    paths = ssl.get_default_verify_paths()
    place = next((path for path in (paths.cafile, paths.capath) if path and os.path.exists(path)), None)
    if place is None:
        return Finding("limited", "trust", "no certificate authorities", "install ca-certificates")
    return Finding("ok", "trust", f"{place}, and ca= and certs.d of registries", used="for registries and URLs")


def _version(path: str) -> str:
    """The first line of what the program says of itself."""
    import subprocess

    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be run: {error}"
    return (done.stdout or done.stderr).strip().partition("\n")[0][:60]
