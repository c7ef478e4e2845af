"""`knarr kubernetes`: manifests for a cluster, on standard output."""

from __future__ import annotations

from knarr.cli.subcommands import Subcommands

_ABOUT = "Print manifests for Kubernetes, for `kubectl apply -f -`. Nothing is asked of a cluster."
_COMMANDS = {
    "serve": ("servekubernetes", "Builder and registry that stay: as `knarr serve --kubernetes`"),
    "job": ("kubernetesjob", "One knarr command as a Job, such as a build"),
    "pod": (
        "kubernetespod",
        "One knarr command as a Pod; without a command: a builder for `--builder kube-pod://NAME`",
    ),
}
COMMANDS = Subcommands("knarr kubernetes", "[OPTIONS]", _ABOUT, _COMMANDS)


def help_text() -> str:
    """What `knarr kubernetes --help` prints."""
    return COMMANDS.help_text()


def run(argv: list[str]) -> int:
    """Carry out `knarr kubernetes ARGUMENTS`."""
    return COMMANDS.run(argv)
