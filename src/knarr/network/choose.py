"""Which network a step has that asks for none in particular: what the settings say, or this machine has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from knarr.config import NETWORKS, StepNetwork
from knarr.errors import UsageError
from knarr.network import conflist, plugins, usermode
from knarr.network.steps import Networks


def networks(wanted: StepNetwork, root: Path) -> Networks | usermode.UserMode | None:
    """The networks that `wanted` asks for, with their notes below the state directory `root`; None: the machine's own.

    Raises:
        UsageError: there is no such configuration, or it cannot be meant.
    """
    mode = wanted.mode
    if mode == "auto":
        mode = "cni" if os.path.exists(wanted.cni_config) else "host"
    if mode == "host":
        return None
    if mode == "bridge":
        network = conflist.bridge(wanted.bridge, wanted.subnet, root / "networks")
    elif mode in usermode.MODES:
        return usermode.choose(mode, root / "run/usermode", _program)
    elif mode == "cni":
        network = conflist.read(wanted.cni_config)
    else:
        raise UsageError(
            f"{mode!r} is no kind of network for steps",
            hint=f"use one of: {', '.join(NETWORKS)}",
        )
    keep = wanted.pool if wanted.pool >= 0 else os.cpu_count() or 1
    return Networks(network, wanted.plugin_dirs or plugins.PLACES, root / "run/networks", keep=keep)


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
