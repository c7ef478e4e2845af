"""`knarr registry`: serve images to others from the store."""

from __future__ import annotations

from knarr.cli.subcommands import Subcommands

_COMMANDS = Subcommands(
    "knarr registry",
    "[OPTIONS]",
    (
        "Serve images: a registry for docker, containerd, podman, skopeo and all others that speak\n"
        "the OCI distribution protocol, on the store that builds use."
    ),
    {
        "serve": ("registryserve", "Serve until stopped"),
        "gc": ("registrygc", "Remove what no repository needs"),
        "restore": ("registryrestore", "Have back what was removed"),
        "import": ("registryimport", "Take over what another registry has on disk"),
        "robot": ("registryrobot", "Make the secret of an account for programs"),
    },
    more="`knarr registry COMMAND --help` tells about one of them.",
)


def help_text() -> str:
    """What `knarr registry --help` prints, the commands' own texts below it."""
    return _COMMANDS.help_text()


def run(argv: list[str]) -> int:
    """Carry out `knarr registry ARGUMENTS`.

    Raises:
        KnarrError: see `Subcommands.run`.
    """
    return _COMMANDS.run(argv)
