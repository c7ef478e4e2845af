"""What a daemon is told by its flags and by buildkitd.toml: one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from knarr.config import Containerd, StepNetwork
from knarr.record import field, record

SOCKET = "unix:///run/buildkit/buildkitd.sock"  # where buildctl looks
CONTAINERD_NAMESPACE = "buildkit"  # buildkitd's, of its containerd worker
DRAIN_S = 10.0  # systemd and Kubernetes kill after 90 and 30 s, BuildKit's test suite after 20


@record
class Tls:
    """Paths of PEM files. With `ca`, clients must show a certificate that it signed."""

    cert: str = ""
    key: str = ""
    ca: str = ""


@record
class CollectRule:
    """One line of the policy of what may go by itself; sizes in bytes, 0 for none."""

    all: bool = False
    filters: tuple[str, ...] = ()
    keep_duration_ns: int = 0
    reserved_bytes: int = 0
    max_used_bytes: int = 0
    min_free_bytes: int = 0


@record
class HistorySettings:
    """How many builds are remembered, and for how long; those that are pinned do not count."""

    max_age_s: float = 48 * 3600
    max_entries: int = 50


@record
class DaemonSettings:
    """See the module. `warnings` is what has been said that has no effect here."""

    root: Path
    addresses: tuple[str, ...] = (SOCKET,)
    group: str = ""  # name or number: who may use the unix sockets, besides root
    uid: int | None = None
    tls: Tls = Tls()
    debug: bool = False
    debug_address: str = ""  # HOST:PORT of metrics and probes
    trace_socket: str = ""  # where steps send spans of their own; empty: nowhere
    entitlements: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    platforms: tuple[str, ...] = ()
    snapshotter: str = ""
    containerd: Containerd | None = None  # whose namespace images are left in and base images are read from
    oci_runtime: str = ""
    cgroup_parent: str = ""  # of steps that name none
    network: StepNetwork = StepNetwork()
    config: str = ""  # path of a buildkitd.toml, whose registries count
    gives_devices: bool = True  # those that are described for CDI, to builds whose callers allow it
    cdi_dirs: tuple[str, ...] = ()  # where devices are described; empty: the usual places
    provenance_dir: str = ""  # see daemon/provenanceenv
    collects: bool = True
    policy: tuple[CollectRule, ...] = ()
    history: HistorySettings = HistorySettings()
    drain_s: float = DRAIN_S
    warnings: tuple[str, ...] = ()
