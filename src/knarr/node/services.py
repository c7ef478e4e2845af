"""What runs in a node, and how it is told: containerd's configuration, networks of pods, `knarr serve`. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from knarr.record import record

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CONTAINERD_CONFIG = "/run/knarr/node/containerd.toml"
SNAPSHOTTER_SOCKET = "/run/knarr/snapshotter.sock"
SERVE_CONFIG = "/etc/knarr/serve.toml"
PAUSE = "knarr.internal/pause:1"
_LISTEN = "127.0.0.1:5000"
_CONFLIST = {
    "cniVersion": "1.0.0",
    "name": "knarr",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.89.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
FILES = {"etc/cni/net.d/10-knarr.conflist": (json.dumps(_CONFLIST, indent=2) + "\n").encode()}


@record
class Service:
    """A process that the node looks after. `tells` is whether it says by sd_notify(3) that it is ready."""

    name: str
    argv: tuple[str, ...]
    tells: bool = True
    socket: str = ""  # else: it is ready when this is there
    stop_s: float = 10.0


@record
class Wanted:
    """What shall run, as the node's entrypoint was told and found."""

    snapshotter: str  # overlayfs, fuse-overlayfs, native
    has: Callable[[str], bool]  # whether a program is there
    listen: str = _LISTEN
    serve_config: str = ""
    serve_words: tuple[str, ...] = ()
    containerd: bool = True


def services(wanted: Wanted) -> tuple[Service, ...]:
    """In the order in which they start; they end in the opposite one."""
    found: list[Service] = []
    if wanted.containerd:
        if wanted.snapshotter == "fuse-overlayfs":
            found.append(_fuse_snapshotter(wanted))
        words = ("containerd", "--config", CONTAINERD_CONFIG)
        found.append(Service("containerd", words))
    config = ("--config", wanted.serve_config) if wanted.serve_config else ("--listen", wanted.listen)
    # Builds under way get as long as Kubernetes waits by default, less what the rest needs.
    serve = ("knarr", "serve", *config, "--drain-timeout", "20", *wanted.serve_words)
    found.append(Service("knarr serve", serve, stop_s=25.0))
    return tuple(found)


def _fuse_snapshotter(wanted: Wanted) -> Service:
    root = "/var/lib/containerd/io.containerd.snapshotter.v1.fuse-overlayfs"
    if wanted.has("containerd-fuse-overlayfs-grpc"):
        words: tuple[str, ...] = ("containerd-fuse-overlayfs-grpc", SNAPSHOTTER_SOCKET, root)
        return Service("fuse-overlayfs snapshotter", words, tells=False, socket=SNAPSHOTTER_SOCKET)
    words = ("knarr", "snapshotter", "serve", "--snapshotter", "fuse-overlayfs")
    words += ("--address", SNAPSHOTTER_SOCKET, "--root", root)
    return Service("fuse-overlayfs snapshotter", words, tells=False, socket=SNAPSHOTTER_SOCKET)


def containerd_config(snapshotter: str, *, cgroups: bool = True, oom: bool = True) -> str:
    """containerd's configuration, of a form that 1.6 to 2 read."""
    lines = [
        "version = 2",
        'root = "/var/lib/containerd"',
        'state = "/run/containerd"',
        "[debug]",
        '  level = "warn"',
        "[grpc]",
        f'  address = "{CONTAINERD_SOCKET}"',
        '[plugins."io.containerd.grpc.v1.cri"]',
        f'  sandbox_image = "{PAUSE}"',
        f"  disable_cgroup = {_bool(not cgroups)}",
        f"  restrict_oom_score_adj = {_bool(not oom)}",
        '  [plugins."io.containerd.grpc.v1.cri".containerd]',
        f'    snapshotter = "{snapshotter}"',
        '    default_runtime_name = "runc"',
        '    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]',
        '      runtime_type = "io.containerd.runc.v2"',
        '    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]',
        '      runtime_type = "io.containerd.runc.v2"',
        '      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]',
        '        BinaryName = "/usr/bin/crun"',
        '  [plugins."io.containerd.grpc.v1.cri".cni]',
        '    bin_dir = "/usr/lib/cni"',
        '    conf_dir = "/etc/cni/net.d"',
        '  [plugins."io.containerd.grpc.v1.cri".registry]',
        '    config_path = "/etc/containerd/certs.d"',
    ]
    if snapshotter == "fuse-overlayfs":
        lines += ["[proxy_plugins.fuse-overlayfs]", '  type = "snapshot"', f'  address = "{SNAPSHOTTER_SOCKET}"']
    return "\n".join(lines) + "\n"


def _bool(value: bool) -> str:
    return "true" if value else "false"


def import_words(archive: str, snapshotter: str) -> Sequence[str]:
    """The command that gives containerd an image, for Kubernetes' namespace. (CRI itself pins the one of pods.)"""
    words = ("images", "import", "--local", "--snapshotter", snapshotter, archive)
    return ("ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", *words)
