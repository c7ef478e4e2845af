"""A program of its own, run by `privatetable`: make a user namespace with an empty table of binary formats.

A process with threads cannot make a user namespace, and only a member can mount
its table; hence this child. It imports nothing of knarr. It writes `namespace`,
waits for the caller to write the id maps, mounts the table at the directory
given as argument, writes `mounted`, and waits to be killed.
"""

from __future__ import annotations

import ctypes
import os
import sys

_CLONE_NEWNS = 0x20000
_CLONE_NEWUSER = 0x10000000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def main() -> None:
    """Carry out the exchange; a failure is written instead of the word expected."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    try:
        _check(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
        _say("namespace")
        if not os.read(0, 64):
            return
        _check(libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None), "make mounts private")
        target = os.fsencode(sys.argv[1])
        _check(libc.mount(b"binfmt_misc", target, b"binfmt_misc", ctypes.c_ulong(0), None), "mount binfmt_misc")
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}")
        return
    _say("mounted")
    os.read(0, 1)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def _say(word: str) -> None:
    os.write(1, word.encode() + b"\n")


if __name__ == "__main__":
    main()
