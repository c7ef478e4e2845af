"""`knarr imagetools`: look at images in registries and put them together, as `docker buildx imagetools` does."""

from __future__ import annotations

from knarr.errors import UsageError

_COMMANDS = {
    "create": ("imagetoolscreate", "Make an image of images: an index over several"),
    "inspect": ("imagetoolsinspect", "Show an image in a registry"),
}


def help_text() -> str:
    """What `knarr imagetools --help` prints."""
    table = "\n".join(f"  {name:<8} {summary}" for name, (_, summary) in _COMMANDS.items())
    parts = [
        f"Usage: knarr imagetools COMMAND\n\nLook at images in registries, and put them together.\n\nCommands:\n{table}"
    ]
    parts += [_module(name).help_text() for name in _COMMANDS]
    return "\n\n".join(parts)


def run(argv: list[str]) -> int:
    """Carry out `knarr imagetools ARGUMENTS`.

    Raises:
        UsageError: there is no such command.
        KnarrError: of the command.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(help_text())
        return 0 if argv else 2
    if argv[0] not in _COMMANDS:
        raise UsageError(f"knarr imagetools {argv[0]}: not known", hint="use create or inspect")
    status: int = _module(argv[0]).run(argv[1:])
    return status


def _module(name: str):  # type: ignore[no-untyped-def]  # a module
    return __import__(f"knarr.cli.{_COMMANDS[name][0]}", fromlist=["run"])
