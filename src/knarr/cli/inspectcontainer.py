"""A container as JSON, with the words of docker inspect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knarr.containers.spec import ContainerMount, ContainerSpec
    from knarr.containers.store import Container, Containers

_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, as docker shows it


def described(containers: Containers, container: Container) -> dict[str, Any]:
    """Everything there is to tell about a container."""
    from knarr.containers.log import stamp

    spec, state = container.spec, container.state
    running = container.is_running
    return {
        "Id": container.id,
        "Name": spec.name,
        "Created": stamp(spec.created_ns),
        "Path": spec.args[0],
        "Args": list(spec.args[1:]),
        "State": {
            "Status": "running" if running else state.status,
            "Running": running,
            "Pid": state.pid if running else 0,
            "ExitCode": state.exit_status,
            "OOMKilled": state.out_of_memory,
            "Error": state.error,
            "StartedAt": stamp(state.started_ns) if state.started_ns else _NEVER,
            "FinishedAt": stamp(state.finished_ns) if state.finished_ns else _NEVER,
        },
        "Image": spec.digest,
        "Platform": spec.platform,
        "LogPath": str(container.log),
        "Mounts": [_mount(containers, mount) for mount in spec.mounts],
        "Config": _config(spec),
        "HostConfig": _host_config(spec),
        "NetworkSettings": {
            "Network": spec.network,
            "IPAddress": next(iter(state.addresses), "") if running else "",
            "Addresses": list(state.addresses) if running else [],
            "Ports": list(state.ports) if running else [],
        },
    }


def _config(spec: ContainerSpec) -> dict[str, Any]:
    return {
        "Hostname": spec.hostname,
        "User": spec.user,
        "Tty": spec.terminal,
        "OpenStdin": spec.stdin,
        "Env": list(spec.env),
        "Cmd": list(spec.args),
        "Image": spec.image,
        "WorkingDir": spec.cwd,
        "Labels": dict(spec.labels),
        "StopSignal": spec.stop_signal,
        "StopTimeout": spec.stop_timeout_s,
    }


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    resources = spec.resources
    return {
        "AutoRemove": spec.remove,
        "NetworkMode": spec.network,
        "PortBindings": [str(port) for port in spec.ports],
        "ReadonlyRootfs": spec.readonly,
        "Privileged": spec.privileged,
        "CapAdd": list(spec.cap_add),
        "CapDrop": list(spec.cap_drop),
        "SecurityOpt": list(spec.security),
        "ShmSize": spec.shm_size_bytes,
        "Init": spec.init,
        "Dns": list(spec.dns),
        "DnsSearch": list(spec.dns_search),
        "DnsOptions": list(spec.dns_options),
        "ExtraHosts": [":".join(pair) for pair in spec.extra_hosts],
        "Ulimits": [{"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in spec.limits],
        "Memory": resources.get("memory_bytes", 0),
        "MemorySwap": resources.get("memory_swap_bytes", 0),
        "CpuShares": resources.get("cpu_shares", 0),
        "CpuPeriod": resources.get("cpu_period_us", 0),
        "CpuQuota": resources.get("cpu_quota_us", 0),
        "CpusetCpus": resources.get("cpuset_cpus", ""),
        "CpusetMems": resources.get("cpuset_mems", ""),
        "PidsLimit": resources.get("pids", 0),
    }


def _mount(containers: Containers, mount: ContainerMount) -> dict[str, Any]:
    from knarr.containers.volumes import Volumes

    source = mount.source
    if mount.kind == "volume":
        source = str(Volumes(containers.root).directory / mount.source / "_data")
    told = {"Type": mount.kind, "Source": source, "Destination": mount.target, "RW": not mount.readonly}
    return {**told, "Name": mount.source} if mount.kind == "volume" else told
