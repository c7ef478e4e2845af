"""What this machine and this user have set: one frozen record, read from the environment once, at the doors.

Below `cli/` and `daemon/` nothing looks around for settings; they come in as a
`Settings`, so the same call does the same thing in a test and in a Pod.

    settings = Settings.from_environment(os.environ)
    settings.content  # PosixPath('/var/lib/knarr/content')
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from knarr.errors import UsageError
from knarr.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

_SNAPSHOTTERS = ("overlayfs", "fuse-overlayfs", "native", "containerd")
_RUNTIMES = ("runc", "crun")
NETWORKS = ("auto", "host", "cni", "bridge", "user", "pasta", "slirp4netns")
outer_uid: int | None = None  # this user's number before a user namespace made it 0 (privilege/profile)
_CDI_DIRS = "/etc/cdi:/var/run/cdi:/etc/buildkit/cdi"  # BuildKit's


@record
class Containerd:
    """Which containerd, and what there. Empty texts: as containerd has it (see `containerd.client`)."""

    address: str = ""  # the path of its socket
    namespace: str = ""


@record
class StepNetwork:
    """The network of steps that ask for none in particular."""

    mode: str = "auto"  # one of NETWORKS; auto: cni where `cni_config` exists, else host; user: pasta or slirp4netns
    cni_config: str = "/etc/buildkit/cni.json"  # a file, or a directory whose first file counts
    plugin_dirs: tuple[str, ...] = ()  # where the plugins lie; empty: the usual places
    pool: int = -1  # how many namespaces are kept for the next step; -1: as many as there are processors
    bridge: str = "knarr0"  # the built-in one
    subnet: str = "10.177.0.0/16"  # not BuildKit's, which may run on this machine, too


@record
class Settings:
    """Where state lives, and what to prefer. Empty text means: choose what works here."""

    root: Path
    hosts_dirs: tuple[Path, ...] = ()  # extra certs.d directories, searched before the usual ones
    snapshotter: str = ""  # KNARR_SNAPSHOTTER: overlayfs, fuse-overlayfs, native, containerd[:NAME] (one of its own)
    oci_runtime: str = ""  # KNARR_OCI_RUNTIME: runc, crun, or the path of one
    cgroup_parent: str = ""  # of steps that name none
    source_date_epoch: int | None = None  # SOURCE_DATE_EPOCH, seconds
    cdi_dirs: tuple[Path, ...] = ()  # where devices are described; a later one goes before an earlier
    containerd: Containerd | None = None  # KNARR_CONTAINERD: one that builds read from and leave images in
    containerd_usual: Containerd = Containerd()  # where containerd is when it is asked for by name alone
    verify: str = ""  # KNARR_VERIFY: the trust policy that base images must pass; empty: none
    network: StepNetwork = StepNetwork()
    multi_platform: bool = False  # BUILDKIT_MULTI_PLATFORM: an index even for one platform

    @property
    def content(self) -> Path:
        return self.root / "content"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def cache_db(self) -> Path:
        return self.root / "cache.db"

    @property
    def run(self) -> Path:
        """Working files of processes that are alive: bundles, mount points, locks."""
        return self.root / "run"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """The settings `environ` asks for.

        Raises:
            UsageError: a variable has a value that cannot be meant.
        """
        from pathlib import Path  # 4 ms, which a warm build that only asks for the root does not pay

        usual = Containerd(
            environ.get("KNARR_CONTAINERD") or environ.get("CONTAINERD_ADDRESS", ""),
            environ.get("CONTAINERD_NAMESPACE", ""),  # both are ctr's and nerdctl's
        )
        return cls(
            containerd=usual if environ.get("KNARR_CONTAINERD") else None,
            containerd_usual=usual,
            root=Path(state_root(environ)),
            hosts_dirs=tuple(Path(part) for part in environ.get("KNARR_HOSTS_DIR", "").split(":") if part),
            snapshotter=_snapshotter(environ),
            oci_runtime=oci_runtime(environ.get("KNARR_OCI_RUNTIME", ""), "KNARR_OCI_RUNTIME"),
            cdi_dirs=cdi_dirs(environ),
            network=_network(environ),
            verify=trust_policy(environ.get("KNARR_VERIFY", "")),
            source_date_epoch=_epoch(environ.get("SOURCE_DATE_EPOCH", "")),
            multi_platform=environ.get("BUILDKIT_MULTI_PLATFORM", "").lower() in ("1", "t", "true"),
        )


def trust_policy(text: str) -> str:
    """The path of a trust policy; `off` and the like are none."""
    return "" if text in ("off", "none", "false") else text


def state_root(environ: Mapping[str, str]) -> str:
    """The state directory: KNARR_ROOT, or the usual place of root or of a user.

    Raises:
        UsageError: neither KNARR_ROOT nor HOME is set.
    """
    chosen = environ.get("KNARR_ROOT")
    if chosen:
        return os.path.abspath(chosen)
    if (os.geteuid() if outer_uid is None else outer_uid) == 0:
        return "/var/lib/knarr"
    data = environ.get("XDG_DATA_HOME")
    if not data:
        home = environ.get("HOME")
        if not home:
            raise UsageError(
                "neither KNARR_ROOT nor HOME is set", hint="set KNARR_ROOT to a directory for knarr's state"
            )
        data = os.path.join(home, ".local", "share")
    return os.path.join(data, "knarr")


def _one_of(environ: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    return _known(environ.get(name, ""), name, known)


def _known(value: str, name: str, known: tuple[str, ...]) -> str:
    if value and value not in known:
        raise UsageError(f"{name}={value}: not known", hint=f"use one of: {', '.join(known)}")
    return value


def _snapshotter(environ: Mapping[str, str]) -> str:
    value = environ.get("KNARR_SNAPSHOTTER", "")
    return value if value.startswith("containerd:") else _one_of(environ, "KNARR_SNAPSHOTTER", _SNAPSHOTTERS)


def _network(environ: Mapping[str, str]) -> StepNetwork:
    usual = StepNetwork()
    return StepNetwork(
        _one_of(environ, "KNARR_NETWORK", NETWORKS) or usual.mode,
        environ.get("KNARR_CNI_CONFIG") or usual.cni_config,
        tuple(part for part in environ.get("CNI_PATH", "").split(":") if part),  # nerdctl's and podman's
        bridge=environ.get("KNARR_BRIDGE") or usual.bridge,
        subnet=environ.get("KNARR_SUBNET") or usual.subnet,
    )


def oci_runtime(value: str, name: str) -> str:
    """`value` of the setting `name`, if it can be meant: crun, runc, a path, or empty.

    Raises:
        UsageError: it is none of them.
    """
    return value if "/" in value else _known(value, name, _RUNTIMES)


def _epoch(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"SOURCE_DATE_EPOCH={text}: not a number of seconds since 1970")
    return int(text)


def cdi_dirs(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where devices are described, as the environment says, or BuildKit's places."""
    from pathlib import Path

    return tuple(Path(part) for part in environ.get("KNARR_CDI_DIR", _CDI_DIRS).split(":") if part)
