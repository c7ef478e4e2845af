"""`knarr builder dial-stdio`: standard input and output as a connection to a daemon, for ssh and `exec`."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from knarr.cli.flags import Flag, Kind, no_words, parse, usage
from knarr.errors import KnarrError, UsageError

_ADDRESS = "unix:///run/buildkit/buildkitd.sock"
FLAGS = (
    Flag("addr", Kind.TEXT, "ADDRESS", f"the daemon's address (default: {_ADDRESS})"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
_PIECE = 64 << 10


def help_text(word: str) -> str:
    """What `knarr builder dial-stdio --help` prints."""
    return (
        "Usage: knarr builder dial-stdio [OPTIONS]\n\nConnect standard input and output with a daemon on this machine. "
        f"`--builder ssh://…` runs it there.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr builder dial-stdio ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr builder dial-stdio")
    if given.switch("help"):
        print(help_text(word))
        return 0
    no_words(given, "knarr builder dial-stdio")
    address = given.text("addr") or _ADDRESS
    path = address.removeprefix("unix://")
    if not path.startswith("/"):
        raise UsageError(f"--addr {address}: not unix:///PATH")
    with socket.socket(socket.AF_UNIX) as daemon:
        try:
            daemon.connect(path)
        except OSError as error:
            raise KnarrError(f"no builder listens at {address}: {error.strerror}", hint="start it there") from error
        _carry(daemon)
    return 0


def _carry(daemon: socket.socket) -> None:
    from knarr.scope import Scope

    with Scope() as scope:
        scope.attempt(_inward, daemon)
        with contextlib.suppress(OSError):
            while data := daemon.recv(_PIECE):
                _write_all(data)
        os._exit(0)  # the thread waits for standard input, which may never end


def _inward(daemon: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(sys.stdin.fileno(), _PIECE):
            daemon.sendall(data)
        daemon.shutdown(socket.SHUT_WR)


def _write_all(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]
