"""Which driver works here: found out by trying, with the reason when one does not."""

from __future__ import annotations

import os
from pathlib import Path

from knarr import linux, virtual
from knarr.errors import KnarrError, Unsupported
from knarr.snapshot import tree
from knarr.snapshot.driver import Driver
from knarr.snapshot.snapshotter import Mount


def choose(root: Path, wanted: str = "auto", *, lasting: bool = False) -> Driver:
    """The snapshotter for `root`: overlayfs if a trial mount below `root` works, else fuse-overlayfs, else native.

    Where owners are only noted it is native: another's notes would copy every file that they are about.

    Each driver has its own directory `root/<name>`: one cannot read another's.
    A trial that worked is remembered in `root` until the next boot. `lasting`: see `Driver`.

    Raises:
        Unsupported: `wanted` is not a driver, or does not work here.
    """
    if wanted == "native" or (wanted == "auto" and (virtual.notes_owners() or not linux.may_mount())):
        return _native(root, lasting)
    if wanted not in ("auto", "overlayfs", "fuse-overlayfs"):
        raise Unsupported(f"snapshotter {wanted} is not known", hint="use auto, overlayfs, fuse-overlayfs or native")
    if wanted == "fuse-overlayfs":
        return _fuse(root, lasting, required=True)
    os.makedirs(root, mode=0o711, exist_ok=True)
    reason = why_not_overlayfs(root)
    if not reason:
        from knarr.snapshot.overlayfs import Overlayfs

        return Overlayfs(root / "overlayfs", lasting=lasting)
    if wanted == "overlayfs":
        raise Unsupported(f"snapshotter overlayfs does not work below {root}: {reason}", hint="use native or auto")
    return _fuse(root, lasting, required=False)


def _fuse(root: Path, lasting: bool, *, required: bool) -> Driver:
    from knarr.snapshot.fuseoverlayfs import FuseOverlayfs, why_not

    os.makedirs(root, mode=0o711, exist_ok=True)
    reason = why_not(root)
    if not reason:
        return FuseOverlayfs(root / "fuse-overlayfs", lasting=lasting)
    if required:
        raise Unsupported(f"snapshotter fuse-overlayfs does not work below {root}: {reason}", hint="use native or auto")
    return _native(root, lasting)


def _native(root: Path, lasting: bool) -> Driver:
    from knarr.snapshot.native import Native

    return Native(root / "native", lasting=lasting)


def why_not_overlayfs(root: Path) -> str:
    """The reason why overlay cannot be mounted on directories below `root`; empty when it can."""
    marker = root / "overlayfs-works"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    try:
        if marker.read_text() == boot:
            return ""
    except OSError:
        pass
    reason = trial(root)
    if not reason:
        marker.write_text(boot)
    return reason


def trial(root: Path, *, kind: str = "overlay") -> str:
    """Mount, by the kernel's overlay or another `kind`, below `root`, and delete a file; the reason when that fails."""
    from knarr.snapshot.mounting import escape_lower, mounted
    from knarr.snapshot.overlayfs import in_user_namespace

    place = root / f"trial-{os.urandom(4).hex()}"
    names = {name: place / name for name in ("lower", "upper", "work", "merged")}
    try:
        for path in names.values():
            path.mkdir(parents=True)
        (names["lower"] / "file").write_text("x")
        options = (
            f"lowerdir={escape_lower(os.fspath(names['lower']))}",
            f"upperdir={names['upper']}",
            f"workdir={names['work']}",
            *(("userxattr",) if kind == "overlay" and in_user_namespace() else ()),
        )
        with mounted((Mount(kind, kind, options),), names["merged"]) as merged:
            (merged / "file").unlink()  # a whiteout, the part that odd file systems refuse
    except (KnarrError, OSError) as error:
        return str(error)
    finally:
        tree.remove(os.fspath(place))
    return ""
