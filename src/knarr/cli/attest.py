"""`knarr attest`: what was said about an image: list it, show it, check who said it, and say something."""

from __future__ import annotations

from knarr.cli.subcommands import Subcommands

_COMMANDS = Subcommands(
    "knarr attest",
    "[OPTIONS] IMAGE",
    "Attestations of an image: in its index (BuildKit's), as referrers and sigstore bundles, in cosign's tags.",
    {
        "list": ("attestlist", "List what was said about an image"),
        "show": ("attestshow", "Show what was said: provenance, packages, anything"),
        "verify": ("attestverify", "Check who said it"),
        "sign": ("attestsign", "Say something about an image, and sign it"),
    },
)


def help_text() -> str:
    """What `knarr attest --help` prints."""
    return _COMMANDS.help_text()


def run(argv: list[str]) -> int:
    """Carry out `knarr attest ARGUMENTS`.

    Raises:
        KnarrError: see `Subcommands.run`.
    """
    return _COMMANDS.run(argv)
