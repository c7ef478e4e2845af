"""The node's entrypoint: the ground, then containerd, then `knarr serve`, then what the container was asked to run.

Each line that it says is one of what it found or chose; what goes wrong ends the
container with a message.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from knarr.errors import KnarrError, Unsupported
from knarr.node import ground, nesting, trust
from knarr.node.services import CONTAINERD_CONFIG, SERVE_CONFIG, Wanted, containerd_config, import_words, services
from knarr.node.supervise import Supervisor, Told
from knarr.record import record

DAEMON = "unix:///run/buildkit/buildkitd.sock"  # where `knarr serve` listens unless it is told otherwise
IMAGES = Path("/usr/share/knarr/images")
_CAP_SYS_ADMIN = 21


@record
class Settings:
    """What the container's user may choose, by variables of the environment."""

    listen: str = "127.0.0.1:5000"
    snapshotter: str = ""  # "": by trial
    containerd: bool = True
    ca: str = str(trust.PLACE)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Each variable that is there and not empty counts."""
        usual = cls()
        return cls(
            environ.get("KNARR_NODE_LISTEN") or usual.listen,
            environ.get("KNARR_NODE_SNAPSHOTTER", ""),
            environ.get("KNARR_NODE_CONTAINERD", "1") not in ("0", "no", "false"),
            environ.get("KNARR_NODE_CA") or usual.ca,
        )


def start(command: Sequence[str], settings: Settings, environ: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Be a node until a signal says that it is enough, or `command` ends; gives the exit status.

    Raises:
        KnarrError: it cannot be a node, or a service ended.
    """
    _require_rights()
    groups = nesting.nest(say)
    try:
        ground.lay()
        believed = trust.install(Path(settings.ca))
    except OSError as error:
        raise KnarrError(f"{error.filename or 'the node'}: {error.strerror}") from error
    say(f"control groups: {groups}")
    if believed:
        say(f"certificates: {', '.join(file.name for file in believed)}")
    snapshotter = _snapshotter(settings, say)
    variant = ground.choose_iptables()
    say(f"iptables: {variant or 'none that works here: pods have no networks of their own'}")
    wanted = Wanted(
        snapshotter,
        lambda name: shutil.which(name) is not None,
        settings.listen,
        SERVE_CONFIG if os.path.exists(SERVE_CONFIG) else "",
        containerd=settings.containerd and shutil.which("containerd") is not None,
    )
    config = containerd_config(snapshotter, cgroups="no limits" not in groups, oom=ground.may_be_spared())
    Path(CONTAINERD_CONFIG).write_text(config)
    with Supervisor(say, Path(CONTAINERD_CONFIG).parent) as processes:
        try:
            return _serve(processes, wanted, command, environ, say)
        except Told:
            return 0


def _serve(
    processes: Supervisor,
    wanted: Wanted,
    command: Sequence[str],
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> int:
    for service in services(wanted):
        processes.start(service, environ)
        say(f"{service.name}: ready")
        if service.name == "containerd":
            for archive in sorted(IMAGES.glob("*.tar")):
                if processes.run(import_words(str(archive), wanted.snapshotter), environ):
                    raise KnarrError(f"{archive}: containerd does not take it")
    if command:
        return processes.run(command, {"BUILDKIT_HOST": DAEMON, **environ}, main=True)
    processes.wait()
    return 0


def _snapshotter(settings: Settings, say: Callable[[str], None]) -> str:
    root = Path("/var/lib/containerd")
    if settings.snapshotter:
        if settings.snapshotter not in ("overlayfs", "fuse-overlayfs", "native"):
            raise Unsupported(
                f"KNARR_NODE_SNAPSHOTTER={settings.snapshotter}: not a snapshotter of the node's",
                hint="overlayfs, fuse-overlayfs or native",
            )
        root.mkdir(parents=True, exist_ok=True)
        return settings.snapshotter
    found = ground.snapshots(root)
    say(f"snapshotter: {found.name}" + (f" ({found.reason}; a volume at {root} may help)" if found.reason else ""))
    return found.name


def _require_rights() -> None:
    """Raises Unsupported: this container may not mount."""
    granted = next(
        (
            int(line.split()[1], 16)
            for line in Path("/proc/self/status").read_text().splitlines()
            if line[:7] == "CapEff:"
        ),
        0,
    )
    if not granted >> _CAP_SYS_ADMIN & 1:
        raise Unsupported(
            "this container may not mount: it can be no node",
            hint="run it privileged, or with a user namespace and CAP_SYS_ADMIN in it; "
            "`--entrypoint knarr … build` builds without (profile `container` or `restricted`)",
        )
