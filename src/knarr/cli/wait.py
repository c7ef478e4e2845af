"""`knarr wait`: wait for containers to end, and print their exit statuses."""

from __future__ import annotations

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import words_of

FLAGS = (Flag("help", Kind.SWITCH, "", "show this text", short="h"),)


def help_text() -> str:
    """What `knarr wait --help` prints."""
    return (
        "Usage: knarr wait CONTAINER...\n\n"
        f"Wait for containers to end, and print their exit statuses.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr wait ARGUMENTS`."""
    from knarr.cli.containerplace import each, opened
    from knarr.containers.call import NotRunning, answer

    given = parse(FLAGS, argv, command="knarr wait")
    if given.switch("help"):
        print(help_text())
        return 0
    containers = opened()

    def wait(word: str) -> str:
        container = containers.find(word)
        try:
            return str(answer(container, {"do": "wait"})["status"])
        except NotRunning:
            return str(opened().find(container.id).state.exit_status)

    return each(words_of(given, "knarr wait", "a container"), wait)
