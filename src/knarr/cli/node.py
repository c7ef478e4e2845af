"""`knarr node`: the node image, made and started."""

from __future__ import annotations

from knarr.cli.subcommands import Subcommands

_ABOUT = (
    "A container with containerd, CRI, runc, crun, CNI plugins and `knarr serve`: a builder, a registry and a place\n"
    "to run what was built, for a machine or a Pod."
)
_COMMANDS = {
    "build": ("nodebuild", "Make the image"),
    "start": ("nodestart", "Be the node: the image's entrypoint"),
    "check": ("nodecheck", "Say what a node made here would find"),
}
COMMANDS = Subcommands("knarr node", "[OPTIONS]", _ABOUT, _COMMANDS)


def help_text() -> str:
    """What `knarr node --help` prints."""
    return COMMANDS.help_text()


def run(argv: list[str]) -> int:
    """Carry out `knarr node ARGUMENTS`."""
    return COMMANDS.run(argv)
