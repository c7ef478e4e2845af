"""A network namespace that lives as long as a descriptor of this process: nothing is mounted, a kill leaves nothing.

with Namespace() as namespace:
    namespace.path  # "/proc/4711/fd/9", for programs in the same PID and mount namespace
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
import threading
from pathlib import Path

from knarr import linux
from knarr.errors import RuntimeFailed

_GET_FLAGS = 0x8913  # SIOCGIFFLAGS
_SET_FLAGS = 0x8914  # SIOCSIFFLAGS
_UP = 1  # IFF_UP
_CHILD = Path(__file__).with_name("newnetwork.py")


class Namespace:
    """A new network namespace with its loopback up.

    It belongs to the user namespace at the path `owner`, else to this process's: who joins
    another user namespace may only join what belongs to that.

    Raises:
        RuntimeFailed: the kernel allows none.
    """

    def __init__(self, owner: str = "") -> None:
        try:
            self._descriptor = _made_by_child(owner) if owner else _made_by_thread()
        except OSError as error:
            raise RuntimeFailed(
                f"a network namespace cannot be made: {error.strerror or error}",
                hint="networks of their own need root on the machine; steps can use the machine's (KNARR_NETWORK=host)",
            ) from error

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Let it go; it ends with the last process in it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def _made_by_thread() -> int:
    """Only a thread can be in another namespace than the rest of the process; it ends with it."""
    found: list[int | OSError] = []

    def make() -> None:
        try:
            linux.unshare(linux.CLONE_NEWNET)
            _bring_up("lo")
            found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=make, name="network namespace")
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def _made_by_child(owner: str) -> int:
    """A thread cannot join a user namespace: a child does, and waits until its network is held from here."""
    import subprocess

    argv = [sys.executable, "-I", "-S", os.fspath(_CHILD), owner]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        told = os.read(child.stdout.fileno(), 16)
        if not told.isdigit():
            raise OSError(errno.ECHILD, "the process that makes it ended early")
        if int(told):
            raise OSError(int(told), os.strerror(int(told)))
        return os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _bring_up(interface: str) -> None:
    name = interface.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        flags = struct.unpack("16xh", fcntl.ioctl(asked, _GET_FLAGS, struct.pack("16sh", name, 0)))[0]
        fcntl.ioctl(asked, _SET_FLAGS, struct.pack("16sh", name, flags | _UP))
