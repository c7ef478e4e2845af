"""Networks for steps of users without rights: a program of the user's carries the step's packets, pasta or slirp4netns.

    with UserMode("pasta", "/usr/bin/pasta", state).lent() as lent:
        run_the_step_in(lent.path)

A step reaches what the machine reaches, not the machine's own loopback, and nobody reaches the step. Name
servers are asked by the program, which asks those of the machine: also one that is on its loopback.

Spec: slirp4netns(1) of 1.2 and passt(1) of 2023; both were tried.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knarr import linux
from knarr.errors import RuntimeFailed, Unsupported
from knarr.network.namespace import Namespace
from knarr.network.steps import Dns, Lent
from knarr.owner import owned_directory

MODES = ("user", "pasta", "slirp4netns")  # user: the first of the others that works
_PASTA_DNS = "169.254.1.1"  # as podman has it
_SLIRP_DNS = "10.0.2.3"  # its own
_PATIENCE_S = 10.0  # for the program to be ready
_INSTALL = "install one (Debian: passt, or slirp4netns), or use the machine's network: KNARR_NETWORK=host"
_PASTA = (
    *("--foreground", "--quiet", "--config-net", "--netns-only", "--no-map-gw", "--dns-forward", _PASTA_DNS),
    *("-t", "none", "-u", "none", "-T", "none", "-U", "none"),  # no port leads in, and none to the machine's loopback
)
_SLIRP = ("--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path")
_NOTHING: Mapping[str, Any] = {}


class UserMode:
    """Lends networks that `name`, a program at `path`, carries; each lasts as long as it is lent.

    `state` is where namespaces are shown to the program as files, in this process's own mounts.
    """

    def __init__(self, name: str, path: str, state: Path) -> None:
        self.name = name
        self._path = path
        self._state = state

    @contextmanager
    def lent(self, owner: str = "", capabilities: Mapping[str, Any] = _NOTHING, name: str = "") -> Iterator[Lent]:
        """A namespace for the time of the block; see `steps.Networks.lent`. Nobody is in it to be told a name.

        Raises:
            RuntimeFailed: it cannot be made, or the program fails.
        """
        with Namespace(owner) as namespace, owned_directory(self._state) as directory:
            carrier = self._carry(namespace.path, directory)
            try:
                server = _PASTA_DNS if self.name == "pasta" else _SLIRP_DNS
                yield Lent(namespace.path, dns=Dns((server,)))
            finally:
                carrier.kill()
                carrier.communicate()

    def close(self) -> None:
        """Nothing is kept."""

    def _carry(self, namespace: str, directory: Path) -> subprocess.Popen[bytes]:
        """Start the program; gives it when the namespace is configured."""
        if self.name == "pasta":
            # It gives up its rights first, and with them may not look at what another process has open.
            shown = directory / "net"
            shown.touch()
            linux.mount(namespace, str(shown), "", linux.MS_BIND, "")
            try:
                return self._started([self._path, *_PASTA, "--netns", str(shown)], namespace)
            finally:
                linux.umount(str(shown), linux.MNT_DETACH)  # the program holds it open
        return self._started([self._path, *_SLIRP, namespace, "tap0"], namespace)

    def _started(self, argv: list[str], namespace: str) -> subprocess.Popen[bytes]:
        try:
            carrier = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise _failure(self.name, error.strerror or str(error)) from error
        deadline = time.monotonic() + _PATIENCE_S
        while not has_route(namespace):
            if carrier.poll() is not None or time.monotonic() > deadline:
                carrier.kill()
                _, words = carrier.communicate()
                raise _failure(self.name, _said(words))
            time.sleep(0.005)
        return carrier


def choose(mode: str, state: Path, find: Callable[[str], str | None]) -> UserMode:
    """The one that `mode` names, or for `user` the first that works here, tried with a network of its own.

    Raises:
        Unsupported: it is not installed, or does not work here.
    """
    reasons = []
    for name in (mode,) if mode != "user" else ("pasta", "slirp4netns"):
        path = find(name)
        if path is None:
            reasons.append(f"{name} is not installed")
            continue
        found = UserMode(name, path, state)
        if mode == "user":
            try:
                with found.lent():
                    pass
            except RuntimeFailed as error:
                reasons.append(error.message)
                continue
        return found
    raise Unsupported(f"no network in user mode: {'; '.join(reasons)}", hint=_INSTALL)


def has_route(namespace: str) -> bool:
    """Whether packets in the namespace have a way out. Only a thread can look into another one; it ends with it."""
    found = []

    def look() -> None:
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.setns(descriptor, linux.CLONE_NEWNET)
            with open("/proc/thread-self/net/route", encoding="ascii") as table:
                found.append(any(line.split()[1] == "00000000" for line in list(table)[1:]))
            with open("/proc/thread-self/net/ipv6_route", encoding="ascii") as table:
                found.append(any(line[:35] == f"{'0' * 32} 00" and line.split()[-1] != "lo" for line in table))
        except OSError:
            return
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=look, name="network of a step")
    thread.start()
    thread.join()
    return any(found)


def _said(words: bytes) -> str:
    lines = [line.strip() for line in words.decode(errors="replace").splitlines()]
    told = [line for line in lines if line and not line.startswith(("Failed to send", "child failed", "sent tapfd"))]
    return "; ".join(told[-2:]) or "it does not get ready"


def _failure(name: str, reason: str) -> RuntimeFailed:
    hint = _INSTALL
    if "/dev/net/tun" in reason or "tun" in reason.lower():
        hint = (
            "let users open /dev/net/tun (mode 0666, as udev has it), or use the machine's network: KNARR_NETWORK=host"
        )
    return RuntimeFailed(f"{name}: {reason}", hint=hint)
