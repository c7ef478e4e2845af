"""`knarr kill`: send a signal to containers."""

from __future__ import annotations

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import words_of

FLAGS = (
    Flag("signal", Kind.TEXT, "SIGNAL", "what to send (default: KILL)", short="s"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr kill --help` prints."""
    return (
        "Usage: knarr kill [OPTIONS] CONTAINER...\n\n"
        f"Send a signal to the first process of containers.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr kill ARGUMENTS`."""
    from knarr.cli.containerplace import each, opened
    from knarr.containers.call import answer
    from knarr.containers.callers import number_of

    given = parse(FLAGS, argv, command="knarr kill")
    if given.switch("help"):
        print(help_text())
        return 0
    number = number_of(given.text("signal", "KILL"))
    containers = opened()

    def kill(word: str) -> str:
        answer(containers.find(word), {"do": "signal", "number": number})
        return word

    return each(words_of(given, "knarr kill", "a container"), kill)
