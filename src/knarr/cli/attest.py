"""`knarr attest`: what was said about an image: list it, show it, check who said it, and say something."""

from __future__ import annotations

from knarr.errors import UsageError

_COMMANDS = {
    "list": ("attestlist", "List what was said about an image"),
    "show": ("attestshow", "Show what was said: provenance, packages, anything"),
    "verify": ("attestverify", "Check who said it"),
    "sign": ("attestsign", "Say something about an image, and sign it"),
}


def help_text() -> str:
    """What `knarr attest --help` prints."""
    table = "\n".join(f"  {name:<8} {summary}" for name, (_, summary) in _COMMANDS.items())
    parts = [
        "Usage: knarr attest COMMAND [OPTIONS] IMAGE\n\n"
        "Attestations of an image: in its index (BuildKit's), as referrers and sigstore bundles, and in cosign's\n"
        f".att tags.\n\nCommands:\n{table}"
    ]
    parts += [_module(name).help_text() for name in _COMMANDS]
    return "\n\n".join(parts)


def run(argv: list[str]) -> int:
    """Carry out `knarr attest ARGUMENTS`.

    Raises:
        UsageError: there is no such command.
        KnarrError: of the command.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(help_text())
        return 0 if argv else 2
    if argv[0] not in _COMMANDS:
        raise UsageError(f"knarr attest {argv[0]}: not known", hint=f"use one of: {', '.join(_COMMANDS)}")
    status: int = _module(argv[0]).run(argv[1:])
    return status


def _module(name: str):  # type: ignore[no-untyped-def]  # a module
    return __import__(f"knarr.cli.{_COMMANDS[name][0]}", fromlist=["run"])
