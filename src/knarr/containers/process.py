"""A container as what the runtime runs: mounts found on this machine, rights, the network's kind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from knarr.containers.spec import ContainerMount, ContainerSpec
from knarr.containers.volumes import Volumes, fill
from knarr.errors import KnarrError, Unsupported
from knarr.llb.ops import LinuxResources
from knarr.network.steps import Dns
from knarr.runtime.capabilities import Rights
from knarr.runtime.process import BindMount, MountSpec, ProcessSpec, TmpfsMount, Ulimit
from knarr.spec.platform import Platform

INIT = "/sbin/docker-init"  # where docker shows it
_INITS = ("tini-static", "docker-init", "catatonit")
_PLACES = ("/usr/bin", "/usr/libexec/docker", "/usr/libexec/podman", "/usr/local/bin")


def process(spec: ContainerSpec, root: Path, volumes: Volumes) -> ProcessSpec:
    """What runs in the tree mounted at `root`. Volumes are made, and filled where they are new.

    Raises:
        KnarrError: what a mount shows is not there.
    """
    mounts = [_mount(mount, root, volumes) for mount in spec.mounts]
    args = spec.args
    if spec.init:
        mounts.append(BindMount(Path(init_program()), INIT, readonly=True))
        args = (INIT, "--", *args)
    return ProcessSpec(
        rootfs=root,
        args=args,
        env=environment(spec),
        cwd=spec.cwd,
        user=spec.user,
        platform=Platform.parse(spec.platform),
        readonly_root=spec.readonly,
        mounts=tuple(mounts),
        network=_network(spec.network),
        security="insecure" if spec.privileged else "sandbox",
        hostname=spec.hostname,
        extra_hosts=spec.extra_hosts,
        shm_size_bytes=spec.shm_size_bytes,
        ulimits=tuple(Ulimit(limit.name, limit.soft, limit.hard) for limit in spec.limits),
        limits=LinuxResources(**spec.resources) if spec.resources else None,  # type: ignore[arg-type]  # by their names
        terminal=spec.terminal,
        rights=rights(spec),
        dns=Dns(spec.dns, spec.dns_search, spec.dns_options),
    )


def require_possible(spec: ContainerSpec) -> None:
    """Refuse what a place without mounts cannot do, rather than do less than was asked for.

    Raises:
        Unsupported: the container asks for it.
    """
    way_out = "run it where user namespaces are allowed: knarr doctor tells what is missing"
    wanted = {
        "a terminal (--tty)": spec.terminal,
        "directories and volumes": any(mount.kind != "tmpfs" for mount in spec.mounts),
        "an init (--init)": spec.init,
        "a network of its own": spec.network != "host",
    }
    for what, is_wanted in wanted.items():
        if is_wanted:
            raise Unsupported(
                f"this place allows no mounts and namespaces, so containers cannot have {what}", hint=way_out
            )


def environment(spec: ContainerSpec, *, terminal: bool | None = None) -> tuple[str, ...]:
    """The variables of a process in the container; with a terminal, they say which kind."""
    has_terminal = spec.terminal if terminal is None else terminal
    head = ("TERM=xterm",) if has_terminal else ()
    return (*head, f"HOSTNAME={spec.hostname}", *spec.env)


def rights(spec: ContainerSpec) -> Rights:
    """What the container may do more or less than others."""
    return Rights(
        spec.cap_add,
        spec.cap_drop,
        no_new_privileges=any(word in spec.security for word in ("no-new-privileges", "no-new-privileges=true")),
        seccomp="seccomp=unconfined" not in spec.security,
    )


def init_program() -> str:
    """A small static init of this machine.

    Raises:
        Unsupported: there is none.
    """
    for name in _INITS:
        for place in _PLACES:
            if os.access(f"{place}/{name}", os.X_OK):
                return f"{place}/{name}"
    raise Unsupported(
        f"--init needs one of {', '.join(_INITS)}, and none is installed",
        hint="Debian, Ubuntu: apt-get install tini",
    )


def _network(name: str) -> Literal["default", "host", "none"]:
    return "host" if name == "host" else "none" if name == "none" else "default"


def _mount(mount: ContainerMount, root: Path, volumes: Volumes) -> MountSpec:
    if mount.kind == "tmpfs":
        options = tuple(filter(None, mount.options.split(",")))
        return TmpfsMount(mount.target, mount.size_bytes, mount.mode, mount.readonly, options)
    if mount.kind == "volume":
        data = volumes.make(mount.source)
        if mount.copies:
            fill(data, root, mount.target)
        return BindMount(data, mount.target, mount.readonly)
    if not os.path.exists(mount.source):
        raise KnarrError(
            f"{mount.source}, which is to be shown at {mount.target}, is not on this machine",
            hint="make it first, or use a volume: --volume NAME:PATH",
        )
    return BindMount(Path(mount.source), mount.target, mount.readonly)
