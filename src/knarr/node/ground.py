"""What a container lacks to run containers in: mounts, devices, ids, a snapshotter that works.

Each step can be repeated.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from knarr import linux
from knarr.record import record
from knarr.snapshot import choose, fuseoverlayfs

_MS_SHARED = 0x100000
_FUSE = (10, 229)  # Linux, Documentation/admin-guide/devices.txt
_FILES = 1 << 20  # open files: what containerd's own unit asks for is more, and what most hosts allow is this


@record
class Snapshots:
    """The snapshotter that works here, and why a better one does not."""

    name: str
    reason: str = ""


def lay() -> None:
    """Temporary file systems, propagation, ids, devices, limits; what may not be done here is left.

    Raises:
        OSError: nothing can be written where it has to be.
    """
    for place, mode in (("/run", "755"), ("/tmp", "1777")):
        if not os.path.ismount(place):
            with suppress(OSError):
                flags = linux.MS_NOSUID | linux.MS_NODEV
                linux.mount("tmpfs", place, "tmpfs", flags, f"mode={mode}")
    with suppress(OSError):
        linux.mount("none", "/", "", linux.MS_REC | _MS_SHARED)  # what pods mount is to be seen, with Bidirectional
    with suppress(OSError):
        _device("/dev/fuse", *_FUSE)
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        wanted = _FILES if hard == resource.RLIM_INFINITY else max(hard, _FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    _machine_id(Path("/etc/machine-id"))
    for name, text in (("hosts", "127.0.0.1 localhost\n::1 localhost\n"), ("resolv.conf", "")):
        if not os.path.exists(f"/etc/{name}"):  # not every runtime brings them, and a pod gets copies of them
            Path(f"/etc/{name}").write_text(text)
    os.makedirs("/run/knarr/node", exist_ok=True)


def _device(path: str, major: int, minor: int) -> None:
    if not os.path.exists(path):
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(major, minor))


def _machine_id(file: Path) -> None:
    """One that no other container of this image has; a mounted one stays."""
    with suppress(OSError):
        if not file.exists() or len(file.read_text().strip()) != 32:
            file.write_text(os.urandom(16).hex() + "\n")


def may_be_spared() -> bool:
    """Whether a process here may be made a late victim when memory lacks, as the first of each pod is to be."""
    place = Path("/proc/self/oom_score_adj")
    before = place.read_text()
    try:
        place.write_text("-998")
        place.write_text(before)
    except OSError:
        return False
    return True


def snapshots(root: Path) -> Snapshots:
    """Which snapshotter works on the disk below `root`, found out by trying."""
    root.mkdir(parents=True, exist_ok=True)
    overlay = choose.trial(root)
    if not overlay:
        return Snapshots("overlayfs")
    fuse = fuseoverlayfs.why_not(root)
    if not fuse:
        return Snapshots("fuse-overlayfs", f"overlayfs: {overlay}")
    return Snapshots("native", f"overlayfs: {overlay}; fuse-overlayfs: {fuse}")


def choose_iptables(directory: Path = Path("/usr/sbin")) -> str:
    """Let `iptables` be the variant that this kernel has: nft, or else the older one; gives its name.

    Rules in both tables at once would hide each other's.
    """
    for variant in ("nft", "legacy"):
        program = shutil.which(f"iptables-{variant}", path=str(directory))
        if program is None or subprocess.run([program, "-S"], capture_output=True, check=False).returncode:
            continue
        for name in ("iptables", "iptables-save", "iptables-restore"):
            for family in (name, name.replace("ip", "ip6", 1)):
                first, _, rest = family.partition("-")
                target = f"{first}-{variant}" + (f"-{rest}" if rest else "")
                with suppress(OSError):
                    draft = directory / f".{family}"
                    draft.symlink_to(target)
                    os.replace(draft, directory / family)
        return variant
    return ""
