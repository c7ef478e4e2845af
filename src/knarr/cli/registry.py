"""`knarr registry`: serve images to others from the store."""

from __future__ import annotations

from knarr.errors import UsageError

_HELP = """Usage: knarr registry COMMAND [OPTIONS]

Serve images: a registry for docker, containerd, podman, skopeo and all others that speak
the OCI distribution protocol, on the store that builds use.

Commands:
{commands}

`knarr registry COMMAND --help` tells about one of them."""

COMMANDS = {
    "serve": ("registryserve", "Serve until stopped"),
    "gc": ("registrygc", "Remove what no repository needs"),
    "restore": ("registryrestore", "Have back what was removed"),
    "import": ("registryimport", "Take over what another registry has on disk"),
    "robot": ("registryrobot", "Make the secret of an account for programs"),
}


def help_text() -> str:
    """What `knarr registry --help` prints, the commands' own texts below it."""
    listed = "\n".join(f"  {name:<8} {summary}" for name, (_, summary) in COMMANDS.items())
    texts = [_module(name).help_text() for name in COMMANDS]
    return "\n\n".join([_HELP.format(commands=listed), *texts])


def run(argv: list[str]) -> int:
    """Carry out `knarr registry ARGUMENTS`."""
    word = argv[0] if argv else ""
    if word in ("-h", "--help"):
        print(help_text())
        return 0
    if word not in COMMANDS:
        raise UsageError(
            f"knarr registry {word}".strip() + ": not known", hint="`knarr registry --help` lists the commands"
        )
    status: int = _module(word).run(argv[1:])
    return status


def _module(word: str):  # type: ignore[no-untyped-def]  # a command's module
    return __import__(f"knarr.cli.{COMMANDS[word][0]}", fromlist=["run"])
