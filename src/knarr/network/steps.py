"""Lends each step a namespace that is joined to a network, and keeps some for the next steps: joining takes 150 ms.

    networks = Networks(conflist.read(path), plugins.PLACES, run / "networks")
    with networks.lent() as lent:
        run_the_step_in(lent.path)
    networks.close()

What is joined is noted on disk first: addresses and firewall rules outlive a process
that is killed, and `sweep` takes them back.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from knarr.network import plugins
from knarr.network.conflist import Network
from knarr.network.namespace import Namespace
from knarr.owner import Owner
from knarr.record import record, replace

_NOTHING: Mapping[str, Any] = {}
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@record
class Dns:
    """What the network says of name servers; empty when it says nothing."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@record
class Lent:
    """A namespace for a step: the path by which programs join it, the result of the last plugin, name servers."""

    path: str
    result: Mapping[str, Any] = _NOTHING
    dns: Dns = Dns()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, without the lengths of their prefixes."""
        return tuple(str(ip.get("address", "")).partition("/")[0] for ip in self.result.get("ips") or ())


class _Joined:
    def __init__(
        self,
        network: Network,
        namespace: Namespace,
        id: str,
        lent: Lent,
        capabilities: Mapping[str, Any],
        owner: str,
    ) -> None:
        self.network, self.namespace, self.id, self.lent = network, namespace, id, lent
        self.capabilities, self.owner = capabilities, owner


class Networks:
    """Namespaces joined to one network. Safe from several threads; several processes may share `state`."""

    def __init__(
        self,
        network: Network,
        places: Sequence[str],
        state: Path,
        *,
        keep: int = 0,
        capabilities: Mapping[str, Any] = _NOTHING,
    ) -> None:
        """`keep` is how many are kept for the next step instead of being taken apart.

        `capabilities` is for who is lent one and says nothing about that.
        """
        self._capabilities = capabilities
        self._network, self._places, self._state, self._keep = network, tuple(places), state, keep
        self._lock = threading.Lock()
        self._idle: list[_Joined] = []
        self._owner: Owner | None = None
        self._numbers = count(1)

    @contextmanager
    def lent(self, owner: str = "", capabilities: Mapping[str, Any] = _NOTHING, name: str = "") -> Iterator[Lent]:
        """A namespace for the time of the block; nobody else has it.

        `owner` is the path of the user namespace that it shall belong to; `capabilities`
        goes to the plugins that have them (see `plugins.add`). Plugins that make names known
        are told `name`, if a host can have it.

        Raises:
            RuntimeFailed: it cannot be made or joined.
        """
        capabilities = capabilities or self._capabilities
        name = name if _NAME.fullmatch(name) else ""
        joined = (None if capabilities or name else self._kept(owner)) or self._join(owner, capabilities, name)
        try:
            yield joined.lent
        finally:
            with self._lock:
                kept = not (joined.capabilities or name) and len(self._idle) < self._keep
                if kept:
                    self._idle.append(joined)
            if not kept:
                self._part(joined)

    def close(self) -> None:
        """Take apart what is kept, and give up this process's claim."""
        with self._lock:
            idle, self._idle = self._idle, []
            owner, self._owner = self._owner, None
        for joined in idle:
            self._part(joined)
        if owner is not None and owner.is_ours:
            directory = self._state / owner.token
            try:
                directory.rmdir()
            except OSError:  # something could not be taken back: the next sweep tries again
                owner.release()
                return
            Owner.forget(self._state / "owners", owner.token)
            owner.release()

    def _kept(self, owner: str) -> _Joined | None:
        with self._lock:
            fitting = [number for number, joined in enumerate(self._idle) if joined.owner == owner]
            return self._idle.pop(fitting[-1]) if fitting else None

    def _join(self, owner: str, capabilities: Mapping[str, Any], name: str) -> _Joined:
        network = replace(self._network, arguments=_named(name)) if name else self._network
        with self._lock:
            if self._owner is None or not self._owner.is_ours:
                self._owner = Owner.claim(self._state / "owners")
            token = self._owner.token
        id = f"knarr-{token}-{next(self._numbers)}"
        directory = self._state / token
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        namespace = Namespace(owner)
        result: Mapping[str, Any] = _NOTHING
        try:
            _note(directory / id, network, self._places, result, capabilities)
            result = plugins.add(network, id, namespace.path, self._places, capabilities)
            _note(directory / id, network, self._places, result, capabilities)
        except BaseException:
            if result:
                plugins.delete(network, id, namespace.path, self._places, result, capabilities)
            (directory / id).unlink(missing_ok=True)
            namespace.close()
            raise
        return _Joined(network, namespace, id, Lent(namespace.path, result, _dns(result)), capabilities, owner)

    def _part(self, joined: _Joined) -> None:
        owner = self._state / joined.id.split("-")[1]
        failed = plugins.delete(
            joined.network,
            joined.id,
            joined.namespace.path,
            self._places,
            joined.lent.result,
            joined.capabilities,
        )
        joined.namespace.close()
        if not failed:
            (owner / joined.id).unlink(missing_ok=True)


def sweep(state: Path) -> int:
    """Take out of their networks what killed processes had joined; returns how many. What fails is tried next time."""
    found = 0
    owners = state / "owners"
    for token in Owner.dead(owners):
        directory = state / token
        for path in sorted(directory.iterdir()) if directory.exists() else ():
            found += 1
            told = _noted(path)
            if told is None or not plugins.delete(told[0], path.name, "", *told[1:]):
                path.unlink(missing_ok=True)
        try:
            if directory.exists():
                directory.rmdir()
        except OSError:
            continue
        Owner.forget(owners, token)
    return found


def _note(
    path: Path, network: Network, places: Sequence[str], result: Mapping[str, Any], capabilities: Mapping[str, Any]
) -> None:
    told = {
        "name": network.name,
        "version": network.version,
        "plugins": list(network.plugins),
        "origin": network.origin,
        "arguments": [list(pair) for pair in network.arguments],
        "places": list(places),
        "result": dict(result),
        "capabilities": dict(capabilities),
    }
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(told))
    os.replace(draft, path)


def _noted(path: Path) -> tuple[Network, list[str], dict[str, Any], dict[str, Any]] | None:
    """What a note says; None for one that was being written when its maker was killed."""
    if path.name.startswith("."):
        return None
    try:
        told = json.loads(path.read_bytes())
        arguments = tuple((name, value) for name, value in told.get("arguments", ()))
        network = Network(told["name"], told["version"], tuple(told["plugins"]), told["origin"], arguments)
        return network, told["places"], told["result"], told["capabilities"]
    except (ValueError, KeyError):
        return None


def _named(name: str) -> tuple[tuple[str, str], ...]:
    """What tells plugins a name, in the words that Kubernetes began with: `dnsname` makes it known in the network."""
    return ("IgnoreUnknown", "1"), ("K8S_POD_NAME", name)


def _dns(result: Mapping[str, Any]) -> Dns:
    said = result.get("dns") or {}
    return Dns(
        tuple(map(str, said.get("nameservers") or ())),
        tuple(map(str, said.get("search") or ())),
        tuple(map(str, said.get("options") or ())),
    )
