"""buildkitd.toml, as far as it means something here; a key that does not is told, and has no effect.

Spec: BuildKit's docs/buildkitd.toml.md and cmd/buildkitd/config, 73ed682. The tables of
registries are read by `remote.buildkitd`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from knarr.config import NETWORKS, Containerd, StepNetwork
from knarr.daemon.settings import CONTAINERD_NAMESPACE, CollectRule, DaemonSettings, HistorySettings, Tls
from knarr.errors import UsageError
from knarr.record import replace

# What buildkitd has and this daemon does without: saying it is no mistake, and changes nothing.
_WITHOUT_EFFECT = (
    *("trace", "proxyNetwork", "log", "dns", "cdi.autoAllowed", "system", "cache", "gha"),
    "frontend",
    "grpc.securityDescriptor",
    *("worker.oci.rootless", "worker.oci.noProcessSandbox"),
    *("worker.oci.proxySnapshotterPath", "worker.oci.stargzSnapshotter"),
    *("worker.oci.apparmor-profile", "worker.oci.selinux", "worker.oci.max-parallelism"),
    *("worker.oci.userRemapUnsupported", "worker.oci.gckeepstorage", "worker.containerd"),
)
_KNOWN = (
    *("debug", "root", "provenanceEnvDir", "insecure-entitlements", "registry", "history.maxAge", "history.maxEntries"),
    *("grpc.address", "grpc.debugAddress", "grpc.uid", "grpc.gid", "grpc.tls.cert", "grpc.tls.key", "grpc.tls.ca"),
    *("worker.oci.enabled", "worker.oci.labels", "worker.oci.platforms", "worker.oci.snapshotter"),
    *("worker.oci.defaultCgroupParent", "worker.oci.binary", "worker.oci.gc", "worker.oci.gcpolicy"),
    *("worker.oci.networkMode", "worker.oci.cniConfigPath", "worker.oci.cniBinaryPath", "worker.oci.cniPoolSize"),
    *("worker.oci.bridgeName", "worker.oci.bridgeSubnet"),
    *("worker.oci.reservedSpace", "worker.oci.maxUsedSpace", "worker.oci.minFreeSpace"),
    *("worker.containerd.enabled", "worker.containerd.address", "worker.containerd.namespace"),
    *("worker.containerd.snapshotter", "cdi.specDirs", "cdi.disabled", "otel.socketPath"),
)
_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def read(path: str, base: DaemonSettings, *, apart: str = "") -> DaemonSettings:
    """`base` with what the file at `path` says otherwise; the table `apart` is somebody else's.

    Raises:
        UsageError: it cannot be read, or a value of it cannot be meant.
    """
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    data.pop(apart, None)
    found = _File(path, data)
    warnings = tuple(found.strange())
    return replace(_merged(found, base), config=path, warnings=(*base.warnings, *warnings))


def _merged(file: _File, base: DaemonSettings) -> DaemonSettings:
    tls = Tls(file.text("grpc.tls.cert"), file.text("grpc.tls.key"), file.text("grpc.tls.ca"))
    gid = file.get("grpc.gid", int, None)
    containerd = _containerd(file)
    if file.get("worker.oci.enabled", bool, True) is False and containerd is None:
        raise UsageError(f"{file.path}: worker.oci.enabled = false leaves no worker")
    return replace(
        base,
        root=Path(file.text("root") or base.root),
        addresses=file.texts("grpc.address") or base.addresses,
        uid=file.get("grpc.uid", int, base.uid),
        group=base.group if gid is None else str(gid),
        tls=tls if tls != Tls() else base.tls,
        debug_address=file.text("grpc.debugAddress") or base.debug_address,
        trace_socket=file.text("otel.socketPath") or base.trace_socket,
        debug=bool(file.get("debug", bool, base.debug)),
        entitlements=file.texts("insecure-entitlements") or base.entitlements,
        labels={**base.labels, **{k: str(v) for k, v in (file.get("worker.oci.labels", dict, {}) or {}).items()}},
        platforms=file.texts("worker.oci.platforms") or base.platforms,
        snapshotter=_snapshotter(file, containerd) or base.snapshotter,
        containerd=containerd,
        oci_runtime=file.text("worker.oci.binary") or base.oci_runtime,
        cgroup_parent=file.text("worker.oci.defaultCgroupParent") or base.cgroup_parent,
        network=_network(file, base.network),
        cdi_dirs=file.texts("cdi.specDirs") or base.cdi_dirs,
        gives_devices=not file.get("cdi.disabled", bool, not base.gives_devices),
        provenance_dir=file.text("provenanceEnvDir") or base.provenance_dir,
        collects=bool(file.get("worker.oci.gc", bool, base.collects)),
        policy=tuple(file.rules()) or base.policy,
        history=_history(file, base.history),
    )


def _containerd(file: _File) -> Containerd | None:
    """The containerd worker, which must be asked for: two workers at once there are none."""
    if file.get("worker.containerd.enabled", bool, False) is not True:
        return None
    address = file.text("worker.containerd.address").removeprefix("unix://")
    return Containerd(address, file.text("worker.containerd.namespace") or CONTAINERD_NAMESPACE)


def _snapshotter(file: _File, containerd: Containerd | None) -> str:
    if containerd is None:
        return file.text("worker.oci.snapshotter")
    return f"containerd:{file.text('worker.containerd.snapshotter') or 'overlayfs'}"


def _network(file: _File, base: StepNetwork) -> StepNetwork:
    mode = file.text("worker.oci.networkMode") or base.mode
    if mode not in NETWORKS:
        raise UsageError(f"{file.path}: networkMode {mode!r}: not known", hint=f"use one of: {', '.join(NETWORKS)}")
    directory = file.text("worker.oci.cniBinaryPath")
    return replace(
        base,
        mode=mode,
        cni_config=file.text("worker.oci.cniConfigPath") or base.cni_config,
        plugin_dirs=(directory,) if directory else base.plugin_dirs,
        pool=int(file.get("worker.oci.cniPoolSize", int, base.pool) or 0),
        bridge=file.text("worker.oci.bridgeName") or base.bridge,
        subnet=file.text("worker.oci.bridgeSubnet") or base.subnet,
    )


def _history(file: _File, base: HistorySettings) -> HistorySettings:
    age = file.value("history.maxAge")
    entries = file.get("history.maxEntries", int, base.max_entries)
    return HistorySettings(
        base.max_age_s if age is None else duration_s(age, f"{file.path}: history.maxAge"),
        base.max_entries if entries is None else entries,
    )


class _File:
    """The file's values by dotted key."""

    def __init__(self, path: str, data: Mapping[str, Any]) -> None:
        self.path = path
        self._data = data

    def value(self, key: str) -> Any:
        found: Any = self._data
        for part in key.split("."):
            if not isinstance(found, dict) or part not in found:
                return None
            found = found[part]
        return found

    def get(self, key: str, kind: type, default: Any) -> Any:
        found = self.value(key)
        if found is None:
            return default
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise UsageError(f"{self.path}: {key} = {found!r}: not a value of this kind")
        return found

    def text(self, key: str) -> str:
        return str(self.get(key, str, ""))

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.get(key, list, [])
        if not all(isinstance(text, str) for text in found):
            raise UsageError(f"{self.path}: {key} must be a list of texts")
        return tuple(found)

    def rules(self) -> Iterator[CollectRule]:
        listed = self.get("worker.oci.gcpolicy", list, [])
        for rule in listed:
            if not isinstance(rule, dict):
                raise UsageError(f"{self.path}: worker.oci.gcpolicy must be tables")
            yield self._rule(rule)
        if not listed and any(self.value(f"worker.oci.{key}") is not None for key in _LIMITS):
            yield self._rule({"all": True, **{key: self.value(f"worker.oci.{key}") or 0 for key in _LIMITS}})

    def _rule(self, rule: Mapping[str, Any]) -> CollectRule:
        place = f"{self.path}: worker.oci.gcpolicy"
        filters = rule.get("filters") or []
        if not isinstance(filters, list) or not all(isinstance(text, str) for text in filters):
            raise UsageError(f"{place}: filters must be a list of texts")
        return CollectRule(
            bool(rule.get("all", False)),
            tuple(filters),
            int(duration_s(rule.get("keepDuration", 0), f"{place}: keepDuration") * 1e9),
            size_bytes(rule.get("reservedSpace", rule.get("keepBytes", 0)), f"{place}: reservedSpace"),
            size_bytes(rule.get("maxUsedSpace", 0), f"{place}: maxUsedSpace"),
            size_bytes(rule.get("minFreeSpace", 0), f"{place}: minFreeSpace"),
        )

    def strange(self) -> Iterator[str]:
        """What the file says in vain."""
        for key in _leaves(self._data):
            if any(key == known or key.startswith(f"{known}.") for known in _KNOWN):
                continue
            named = any(key == known or key.startswith(f"{known}.") for known in _WITHOUT_EFFECT)
            yield f"{self.path}: {key} {'has no effect here' if named else 'is not known'}"


_LIMITS = ("reservedSpace", "maxUsedSpace", "minFreeSpace")


def _leaves(data: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in data.items():
        dotted = f"{above}{key}"
        if isinstance(value, dict) and dotted not in ("registry", "worker.oci.labels"):
            yield from _leaves(value, f"{dotted}.")
        else:
            yield dotted


def size_bytes(value: object, place: str) -> int:
    """A size as buildkitd.toml has it: bytes, text with a unit of powers of ten, or a share of the disk (0: no limit).

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        share = re.fullmatch(r"(\d+)%", value.strip())
        if share:
            disk = os.statvfs("/")
            return disk.f_frsize * disk.f_blocks * int(share[1]) // 100
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", value.strip().lower())
        if match:
            return int(float(match[1]) * _UNITS[match[2]])
    raise UsageError(f"{place}: {value!r} is not a size", hint='write it like 1073741824, "10GB" or "10%"')


def duration_s(value: object, place: str) -> float:
    """A duration as buildkitd.toml has it: seconds, or text such as "48h".

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value)
        if parts and "".join(number + unit for number, unit in parts) == value:
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
        if value.isdecimal():
            return float(value)
    raise UsageError(f"{place}: {value!r} is not a duration", hint='write it in seconds, or like "48h"')
