"""`knarr builder`: buildkitds by name, for `knarr build` to use."""

from __future__ import annotations

from knarr.cli.subcommands import Subcommands
from knarr.errors import UsageError

_COMMANDS = Subcommands(
    "knarr builder",
    "[OPTIONS]",
    (
        "Name the buildkitds that `knarr build` may use: BuildKit's own or `knarr daemon`, here or elsewhere.\n"
        "buildx keeps its builders in a place of its own, and they stay as they are."
    ),
    {
        "create": ("buildercreate", "Name a builder, or give one another node"),
        "ls": ("builderlist", "List the builders, and whether they answer"),
        "use": ("buildercreate", "Use a builder when nothing else is said"),
        "rm": ("buildercreate", "Forget builders"),
        "inspect": ("builderlist", "Show what a builder says of itself"),
        "du": ("buildercache", "Show what a builder's cache takes"),
        "prune": ("buildercache", "Remove what a builder no longer needs"),
        "dial-stdio": ("builderdial", "Connect standard input and output with a daemon on this machine"),
    },
    more=(
        "The builder of a build is --builder, else KNARR_BUILDER, else BUILDKIT_HOST, else the one in use; `default`\n"
        "is no other than the process itself. `knarr builder COMMAND --help` tells about one of them."
    ),
    by_name=True,
)
_STOP = "knarr starts no builders: stop it where it was started, or forget it: knarr builder rm NAME"


def help_text() -> str:
    """What `knarr builder --help` prints, the commands' own texts below it."""
    return _COMMANDS.help_text()


def run(argv: list[str]) -> int:
    """Carry out `knarr builder ARGUMENTS`.

    Raises:
        KnarrError: see `Subcommands.run`.
    """
    if argv[:1] == ["stop"]:
        raise UsageError("knarr builder stop is not there", hint=_STOP)
    return _COMMANDS.run(argv)
