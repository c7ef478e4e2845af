"""`knarr snapshotter serve`: knarr's snapshotters for containerd, as a proxy plugin of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import KnarrError, UsageError

ADDRESS = "/run/knarr/snapshotter.sock"
FLAGS = (
    Flag("address", Kind.TEXT, "SOCKET", f"listen there (default: {ADDRESS})"),
    Flag("root", Kind.TEXT, "DIRECTORY", "keep the snapshots there (default: snapshotter in KNARR_ROOT)"),
    Flag("snapshotter", Kind.TEXT, "NAME", "overlayfs, fuse-overlayfs, native or auto (the default): what works there"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr snapshotter --help` prints."""
    return (
        "Usage: knarr snapshotter serve [OPTIONS]\n\n"
        "Serve a snapshotter of knarr's to containerd. In containerd's configuration:\n\n"
        "  [proxy_plugins.knarr]\n"
        '    type = "snapshot"\n'
        f'    address = "{ADDRESS}"\n\n'
        'Then `ctr run --snapshotter knarr …`, or snapshotter = "knarr" for Kubernetes. Snapshots stay until\n'
        f"containerd has them removed, also over restarts of either.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr snapshotter ARGUMENTS`: serves until it is told to stop.

    Raises:
        KnarrError: the socket or the directory cannot be used.
    """
    given = parse(FLAGS, argv, command="knarr snapshotter")
    if given.switch("help"):
        print(help_text())
        return 0
    if given.words != ("serve",):
        raise UsageError("knarr snapshotter has one command: serve", hint="see `knarr snapshotter --help`")
    from knarr.config import state_root
    from knarr.containerd.serve import serving_snapshotter
    from knarr.snapshot.choose import choose

    root = given.text("root") or os.path.join(state_root(os.environ), "snapshotter")
    address = given.text("address", ADDRESS)
    os.umask(0o022)
    try:
        driver = choose(Path(os.path.abspath(root)), given.text("snapshotter", "auto"), lasting=True)
        driver.walk()  # opens the books
    except OSError as error:
        raise KnarrError(f"{error.filename or root}: {error.strerror}") from error
    try:
        with serving_snapshotter(driver, address):
            print(f"serving snapshotter {driver.name} at {address}, snapshots in {driver.root}", file=sys.stderr)
            _wait()
    finally:
        driver.close()
    return 0


def _wait() -> None:
    """Until SIGTERM or SIGINT, which are a regular end."""
    import signal
    import threading

    from knarr.scope import TICK_S

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(TICK_S):
        pass
