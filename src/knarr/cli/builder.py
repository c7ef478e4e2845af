"""`knarr builder`: buildkitds by name, for `knarr build` to use."""

from __future__ import annotations

from knarr.errors import UsageError

_HELP = """Usage: knarr builder COMMAND [OPTIONS]

Name the buildkitds that `knarr build` may use: BuildKit's own or `knarr daemon`, here or elsewhere.
buildx keeps its builders in a place of its own, and they stay as they are.

Commands:
{commands}

The builder of a build is --builder, else KNARR_BUILDER, else BUILDKIT_HOST, else the one in use; `default` is
no other than the process itself. `knarr builder COMMAND --help` tells about one of them."""

COMMANDS = {
    "create": ("buildercreate", "Name a builder, or give one another node"),
    "ls": ("builderlist", "List the builders, and whether they answer"),
    "use": ("buildercreate", "Use a builder when nothing else is said"),
    "rm": ("buildercreate", "Forget builders"),
    "inspect": ("builderlist", "Show what a builder says of itself"),
    "du": ("buildercache", "Show what a builder's cache takes"),
    "prune": ("buildercache", "Remove what a builder no longer needs"),
    "dial-stdio": ("builderdial", "Connect standard input and output with a daemon on this machine"),
}
_STOP = "knarr starts no builders: stop it where it was started, or forget it: knarr builder rm NAME"


def help_text() -> str:
    """What `knarr builder --help` prints, the commands' own texts below it."""
    listed = "\n".join(f"  {name:<11} {summary}" for name, (_, summary) in COMMANDS.items())
    texts = [_module(name).help_text(name) for name in COMMANDS]
    return "\n\n".join([_HELP.format(commands=listed), *texts])


def run(argv: list[str]) -> int:
    """Carry out `knarr builder ARGUMENTS`."""
    word = argv[0] if argv else ""
    if word in ("-h", "--help"):
        print(help_text())
        return 0
    if word == "stop":
        raise UsageError("knarr builder stop is not there", hint=_STOP)
    if word not in COMMANDS:
        raise UsageError(
            f"knarr builder {word}".strip() + ": not known", hint="`knarr builder --help` lists the commands"
        )
    status: int = _module(word).run(word, argv[1:])
    return status


def _module(word: str):  # type: ignore[no-untyped-def]  # a command's module
    return __import__(f"knarr.cli.{COMMANDS[word][0]}", fromlist=["run"])
