"""Which network a step has that asks for none in particular: what the settings say, or this machine has."""

from __future__ import annotations

import os
from pathlib import Path

from knarr.config import StepNetwork
from knarr.errors import UsageError
from knarr.network import conflist, plugins
from knarr.network.steps import Networks


def networks(wanted: StepNetwork, root: Path) -> Networks | None:
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
    elif mode == "cni":
        network = conflist.read(wanted.cni_config)
    else:
        raise UsageError(f"{mode!r} is no kind of network for steps", hint="use one of: auto, host, cni, bridge")
    keep = wanted.pool if wanted.pool >= 0 else os.cpu_count() or 1
    return Networks(network, wanted.plugin_dirs or plugins.PLACES, root / "run/networks", keep=keep)
