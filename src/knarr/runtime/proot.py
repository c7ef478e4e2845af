"""The command line of proot, which translates the paths of a step's processes, and what it is told.

Spec: proot(1), version 5.1, as Debian has it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from knarr.errors import Unsupported
from knarr.paths import clean
from knarr.record import record
from knarr.runtime import bundle
from knarr.runtime.hosts import hosts_file, resolv_conf
from knarr.runtime.oci import find
from knarr.runtime.process import BindMount, ProcessSpec, SecretFile, TmpfsMount
from knarr.runtime.stubs import Point
from knarr.runtime.users import User

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def program() -> str | None:
    """Where proot is installed."""
    return find("proot")


@record
class Bind:
    """A file or directory of this place, as a step sees it at `target`."""

    source: str
    target: str

    def point(self, root: str) -> Point:
        """Where it must be in the tree: proot makes what is missing, and leaves it there."""
        return Point(root, self.target, os.path.isdir(self.source))


def binds(spec: ProcessSpec, place: str) -> list[Bind]:
    """What the step sees, shallow ones first. `place` is a directory for what is made for it."""
    found = [("/proc", "/proc"), ("/sys", "/sys"), *_devices(place), *_etc(spec, place)]
    found += sorted(_asked(spec, place), key=lambda pair: pair[1].count("/"))
    return [Bind(source, target) for source, target in found]


def told(
    spec: ProcessSpec, user: User, root: str, shown: Sequence[Bind], *, qemu: str, is_root: bool
) -> dict[str, Any]:
    """What `launch` is told to run the step under proot.

    Raises:
        Unsupported: proot is not installed.
    """
    path = program()
    if path is None:
        raise Unsupported(
            "steps cannot run here without path translation: proot is not installed",
            hint="install it (Debian, Ubuntu: apt-get install proot), or allow user namespaces",
        )
    identity = ("-i", f"{user.uid}:{user.gid}") if not is_root else ()
    emulation = ("-q", qemu) if qemu else ()
    options = [word for bind in shown for word in ("-b", f"{bind.source}:{bind.target}!")]
    return {
        "root": "",
        "args": [path, "-r", root, *identity, *emulation, *options, "-w", clean(spec.cwd), *spec.args],
        "env": [*bundle.environment(spec, user), "PROOT_NO_SECCOMP=1"],
        "cwd": "/",
        "user": [user.uid, user.gid, [user.gid, *user.groups]] if is_root else None,
        "dropped": [],
    }


def points_for_qemu(root: str) -> list[Point]:
    """What proot binds of its own accord in steps that it emulates: this place for qemu, and nothing to preload."""
    return [Point(root, "/host-rootfs", True), Point(root, "/etc/ld.so.preload", False)]


def _devices(place: str) -> list[tuple[str, str]]:
    """A /dev of a few of this machine's devices, and of nothing else."""
    directory = f"{place}/dev"
    os.mkdir(directory, 0o755)
    for name in ("shm", "pts", "mqueue"):
        os.mkdir(f"{directory}/{name}", 0o1777)
    for name in _DEVICES:
        os.close(os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{directory}/{name}")
    return [(directory, "/dev"), *((f"/dev/{name}", f"/dev/{name}") for name in _DEVICES)]


def _etc(spec: ProcessSpec, place: str) -> list[tuple[str, str]]:
    hosts, resolv = Path(place, "hosts"), Path(place, "resolv.conf")
    hosts.write_text(hosts_file(spec.hostname, spec.extra_hosts), encoding="utf-8")
    resolv.write_text(resolv_conf(own_network=False), encoding="utf-8", errors="surrogateescape")
    return [(str(hosts), "/etc/hosts"), (str(resolv), "/etc/resolv.conf")]


def _asked(spec: ProcessSpec, place: str) -> list[tuple[str, str]]:
    found = []
    for number, mount in enumerate(spec.mounts):
        if isinstance(mount, BindMount):
            found.append((os.fspath(mount.source), clean(mount.target)))
        elif isinstance(mount, TmpfsMount):
            directory = f"{place}/tmpfs-{number}"
            os.mkdir(directory)
            os.chmod(directory, mount.mode)
            found.append((directory, clean(mount.target)))
        elif isinstance(mount, SecretFile):
            file = f"{place}/secret-{number}"
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(mount.value)
                os.fchmod(descriptor, mount.mode)
            found.append((file, clean(mount.target)))
    return found
