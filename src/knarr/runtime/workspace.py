"""The directory of one container: its bundle, its etc files, and its secrets on a tmpfs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from knarr import linux
from knarr.errors import RuntimeFailed
from knarr.runtime.hosts import hosts_file, reachable, resolv_conf, with_dns
from knarr.runtime.process import ProcessSpec, SecretFile

if TYPE_CHECKING:
    from knarr.network.steps import Lent


class Workspace:
    """The directory at `path`, for as long as `workspace` lends it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def write_etc(self, spec: ProcessSpec, network: Lent | None = None) -> tuple[Path, Path]:
        """Write /etc/hosts and /etc/resolv.conf of the step, for the network it has to itself; gives the two files."""
        hosts, resolv = Path(self.path, "hosts"), Path(self.path, "resolv.conf")
        hosts.write_text(hosts_file(spec.hostname, spec.extra_hosts), encoding="utf-8")
        text = resolv_conf(own_network=spec.network == "none" or network is not None)
        if network is not None:
            text = reachable(text, network.dns)
        if spec.dns is not None:
            text = with_dns(text, spec.dns)
        resolv.write_text(text, encoding="utf-8", errors="surrogateescape")
        for file in (hosts, resolv):
            os.chmod(file, 0o644)  # whatever the umask: every user of the step reads them
        return hosts, resolv

    def write_secrets(self, spec: ProcessSpec) -> list[tuple[Path, str]]:
        """Write the step's secrets into memory; gives (file, target in the step).

        Raises:
            RuntimeFailed: a tmpfs cannot be mounted.
        """
        secrets = [mount for mount in spec.mounts if isinstance(mount, SecretFile)]
        if not secrets:
            return []
        directory = self._mount_secrets()
        written = []
        for number, secret in enumerate(secrets):
            path = Path(directory, str(number))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600), "wb") as file:
                file.write(secret.value)
                os.fchown(file.fileno(), secret.uid, secret.gid)
                os.fchmod(file.fileno(), secret.mode)
            written.append((path, secret.target))
        return written

    def _mount_secrets(self) -> str:
        directory = self.path + "/secrets"
        os.mkdir(directory, 0o700)
        try:
            flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
            linux.mount("tmpfs", directory, "tmpfs", flags, "mode=0711")
        except OSError as error:
            raise RuntimeFailed(f"secrets need a tmpfs, which cannot be mounted: {error.strerror}") from error
        return directory

    def kill_by_number(self) -> None:
        """Kill the container's first process, and with it all others of its PID namespace."""
        try:
            pid = int(Path(self.path, "pid").read_text())
            os.kill(pid, signal.SIGKILL)
        except (OSError, ValueError):
            return  # not started yet, or over

    def remove(self) -> None:
        """Remove everything; what is not there is fine."""
        remove(self.path)


@contextmanager
def workspace(parent: Path, id: str) -> Iterator[Workspace]:
    """A new directory for the container `id` below `parent`, removed afterwards."""
    os.makedirs(parent, mode=0o711, exist_ok=True)
    place = Workspace(f"{parent}/{id}")
    os.mkdir(place.path, 0o711)
    try:
        yield place
    finally:
        place.remove()


def remove(path: str) -> None:
    """Remove a container's directory, also one that a killed process left."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return
    for name in names:
        if name == "secrets":
            _remove_secrets(f"{path}/{name}")
        elif name in ("aside", "root", "dev") or name.startswith("tmpfs-"):  # of a step that had no mounts
            from knarr.runtime.placing import remove as remove_tree

            remove_tree(f"{path}/{name}")
        else:
            os.unlink(f"{path}/{name}")
    os.rmdir(path)


def _remove_secrets(directory: str) -> None:
    with suppress(OSError):  # not mounted in this mount namespace
        linux.umount(directory, linux.UMOUNT_NOFOLLOW | linux.MNT_DETACH)
    os.rmdir(directory)
