"""A network namespace that lives as long as a descriptor of this process: nothing is mounted, a kill leaves nothing.

with Namespace() as namespace:
    namespace.path  # "/proc/4711/fd/9", for programs in the same PID and mount namespace
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from typing import NoReturn

from knarr import linux
from knarr.errors import RuntimeFailed

_GET_FLAGS = 0x8913  # SIOCGIFFLAGS
_SET_FLAGS = 0x8914  # SIOCSIFFLAGS
_UP = 1  # IFF_UP


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
    joined = os.open(owner, os.O_RDONLY | os.O_CLOEXEC)
    made, made_there = os.pipe()
    held_there, held = os.pipe()
    child = os.fork()
    if not child:
        os.close(held)  # its end would never come
        _be_in(joined, made_there, held_there)
    try:
        os.close(made_there)
        number = int(os.read(made, 16) or b"0")
        if number:
            raise OSError(number, os.strerror(number))
        return os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (held, held_there, made, joined):
            os.close(descriptor)
        os.waitpid(child, 0)


def _be_in(owner: int, made: int, held: int) -> NoReturn:
    """The child: says 0 or an error number once it is in a network of its own, and ends when that is held."""
    try:
        number = 0
        try:
            linux.setns(owner, linux.CLONE_NEWUSER)
            linux.unshare(linux.CLONE_NEWNET)
            _bring_up("lo")
        except OSError as error:
            number = error.errno or 1
        os.write(made, str(number).encode())
        os.read(held, 1)
    finally:
        os._exit(0)


def _bring_up(interface: str) -> None:
    name = interface.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        flags = struct.unpack("16xh", fcntl.ioctl(asked, _GET_FLAGS, struct.pack("16sh", name, 0)))[0]
        fcntl.ioctl(asked, _SET_FLAGS, struct.pack("16sh", name, flags | _UP))
