"""A program of its own, run by `namespace`: join the user namespace at the path given, and make a network in it.

A process with threads cannot join a user namespace, nor can a fork of one whose
gRPC starts its threads again; hence this child. It imports nothing of knarr. It
writes 0 or the number of an error, and ends with its standard input.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP


def main() -> None:
    """Carry it out, and tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = 0
    try:
        owner = os.open(sys.argv[1], os.O_RDONLY | os.O_CLOEXEC)
        if libc.setns(owner, _CLONE_NEWUSER) or libc.unshare(_CLONE_NEWNET):
            number = ctypes.get_errno() or 1
        else:
            _bring_up(b"lo")
    except OSError as error:
        number = error.errno or 1
    os.write(1, str(number).encode())
    os.read(0, 1)


def _bring_up(name: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        flags = struct.unpack("16xh", fcntl.ioctl(asked, _GET_FLAGS, struct.pack("16sh", name, 0)))[0]
        fcntl.ioctl(asked, _SET_FLAGS, struct.pack("16sh", name, flags | _UP))


if __name__ == "__main__":
    main()
