"""Asks the plugins of a network to add a namespace to it, and to take it out again.

Each plugin is a program: what to do stands in its environment, the configuration and the
result of the plugin before it come on its standard input, its own result goes to its
standard output. When one fails, all are asked to delete, so that nothing half-done stays.

Spec: CNI 1.0 (containernetworking/cni, SPEC.md), sections 2 to 5.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from knarr.errors import KnarrError, RuntimeFailed
from knarr.network.conflist import Network

PLACES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")  # containerd's, Debian's, Fedora's
INTERFACE = "eth0"
_TIMEOUT_S = 60.0
_SHOWN = 400  # characters of what a plugin said that is no answer
_NOTHING: Mapping[str, Any] = {}
_HINTS = {
    "iptables": "the plugin needs iptables (Debian, Ubuntu: apt-get install iptables)",
    "operation not permitted": "networks of their own need root on the machine; --network=host steps do not",
}


def add(
    network: Network, id: str, namespace: str, places: Sequence[str], capabilities: Mapping[str, Any] = _NOTHING
) -> dict[str, Any]:
    """Join the namespace at the path `namespace` to the network; the result of the last plugin.

    `capabilities` is what a plugin is told that says it has one of them (`portMappings`, for one).

    Raises:
        RuntimeFailed: a plugin is missing or failed; what the others had done is undone.
    """
    result: dict[str, Any] = {}
    try:
        for plugin in network.plugins:
            result = _ask("ADD", network, plugin, id, namespace, places, result, capabilities)
    except BaseException:
        delete(network, id, namespace, places, result, capabilities)
        raise
    return result


def delete(
    network: Network,
    id: str,
    namespace: str,
    places: Sequence[str],
    result: Mapping[str, Any],
    capabilities: Mapping[str, Any] = _NOTHING,
) -> list[KnarrError]:
    """Take the namespace out of the network, also when it is gone (`namespace` empty). Asks all plugins, come what may.

    Returns what went wrong; nothing is raised.
    """
    failed: list[KnarrError] = []
    for plugin in reversed(network.plugins):
        try:
            _ask("DEL", network, plugin, id, namespace, places, result, capabilities)
        except KnarrError as error:
            failed.append(error)
    return failed


def find(kind: str, places: Sequence[str]) -> str:
    """The path of a plugin.

    Raises:
        RuntimeFailed: it is in none of `places`.
    """
    for place in places:
        path = os.path.join(place, kind)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise RuntimeFailed(
        f"the CNI plugin {kind} is not in {', '.join(places)}",
        hint="install them (Debian, Ubuntu: apt-get install containernetworking-plugins), or name their directory",
    )


def _ask(
    command: str,
    network: Network,
    plugin: Mapping[str, Any],
    id: str,
    namespace: str,
    places: Sequence[str],
    before: Mapping[str, Any],
    capabilities: Mapping[str, Any],
) -> dict[str, Any]:
    kind = str(plugin["type"])
    told: dict[str, Any] = {**plugin, "name": network.name, "cniVersion": network.version}
    said = plugin.get("capabilities")
    known = {name: capabilities[name] for name, has in said.items() if has and name in capabilities} if said else {}
    if known:
        told["runtimeConfig"] = known
    told.pop("capabilities", None)
    if before:
        told["prevResult"] = dict(before)
    environment = {
        **os.environ,
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": id,
        "CNI_NETNS": namespace,
        "CNI_IFNAME": INTERFACE,
        "CNI_PATH": ":".join(places),
        "CNI_ARGS": ";".join(f"{name}={value}" for name, value in network.arguments),
    }
    where = f"network {network.name} ({network.origin}): plugin {kind}"
    try:
        done = subprocess.run(
            [find(kind, places)],
            input=json.dumps(told).encode(),
            env=environment,
            capture_output=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeFailed(f"{where} did not answer {command} for {_TIMEOUT_S:.0f} seconds") from None
    except OSError as error:
        raise RuntimeFailed(f"{where} cannot be started: {error.strerror}") from error
    if done.returncode:
        raise _refusal(f"{where} failed to {command}", done)
    if command == "DEL":
        return {}
    try:
        result = json.loads(done.stdout)
        if not isinstance(result, dict):
            raise ValueError("no object")
    except ValueError:
        raise RuntimeFailed(f"{where} gave no result: {_shown(done.stdout)}") from None
    return result


def _refusal(what: str, done: subprocess.CompletedProcess[bytes]) -> RuntimeFailed:
    try:
        told = json.loads(done.stdout)
        words = ": ".join(str(told[key]) for key in ("msg", "details") if told.get(key)) or f"code {told.get('code')}"
    except (ValueError, AttributeError):
        words = _shown(done.stderr or done.stdout) or f"exit status {done.returncode}"
    hint = next((hint for sign, hint in _HINTS.items() if sign in words.lower()), "")
    return RuntimeFailed(f"{what}: {words}", hint=hint)


def _shown(output: bytes) -> str:
    return output[-_SHOWN:].decode(errors="replace").strip()
