"""`knarr node start`: the entrypoint of the node image."""

from __future__ import annotations

import os
import sys

HELP = """\
Usage: knarr node start [COMMAND [ARGUMENT…]]

Be the node, in a privileged container or in a Pod: control groups, mounts and certificates first, then
containerd, then `knarr serve`. With a command, run it when all is ready, and end with its status.

Read from the environment:
  KNARR_NODE_LISTEN       where the registry listens (default: 127.0.0.1:5000)
  KNARR_NODE_SNAPSHOTTER  overlayfs, fuse-overlayfs or native (default: the first that works)
  KNARR_NODE_CONTAINERD   0: only knarr serve
  KNARR_NODE_CA           directory of certificates to believe (default: /etc/knarr/ca)
and from mounts: /etc/knarr/serve.toml (settings of `knarr serve`), /etc/containerd/certs.d, /var/lib/knarr,
/var/lib/containerd."""


def help_text() -> str:
    """What `knarr node start --help` prints."""
    return HELP


def run(argv: list[str]) -> int:
    """Carry out `knarr node start ARGUMENTS`.

    Raises:
        KnarrError: this container can be no node, or a service ended.
    """
    if argv[:1] in (["-h"], ["--help"]):
        print(HELP)
        return 0
    from knarr.node.start import Settings, start

    command = argv[1:] if argv[:1] == ["--"] else argv
    return start(command, Settings.from_environment(os.environ), os.environ, _say)


def _say(line: str) -> None:
    print(f"node: {line}", file=sys.stderr, flush=True)
