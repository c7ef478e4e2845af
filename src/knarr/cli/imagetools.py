"""`knarr imagetools`: look at images in registries and put them together, as `docker buildx imagetools` does."""

from __future__ import annotations

from knarr.cli.subcommands import Subcommands

_COMMANDS = Subcommands(
    "knarr imagetools",
    "",
    "Look at images in registries, and put them together.",
    {
        "create": ("imagetoolscreate", "Make an image of images: an index over several"),
        "inspect": ("imagetoolsinspect", "Show an image in a registry"),
    },
)


def help_text() -> str:
    """What `knarr imagetools --help` prints."""
    return _COMMANDS.help_text()


def run(argv: list[str]) -> int:
    """Carry out `knarr imagetools ARGUMENTS`.

    Raises:
        KnarrError: see `Subcommands.run`.
    """
    return _COMMANDS.run(argv)
