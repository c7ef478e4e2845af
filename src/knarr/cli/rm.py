"""`knarr rm`: remove containers, and what only they had."""

from __future__ import annotations

from contextlib import suppress

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import words_of
from knarr.errors import ContentError, KnarrError, NotFound, UsageError

FLAGS = (
    Flag("force", Kind.SWITCH, "", "kill it first if it runs; one that is not there is no failure", short="f"),
    Flag("volumes", Kind.SWITCH, "", "anonymous volumes, too", short="v"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr rm --help` prints."""
    return (
        "Usage: knarr rm [OPTIONS] CONTAINER...\n\n"
        "Remove containers: their own changes, their logs, their names.\n\nOptions:\n" + usage(FLAGS)
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr rm ARGUMENTS`; containers after one that cannot be removed are removed, too."""
    from knarr.cli.containerplace import each, opened, removed
    from knarr.containers.call import NotRunning, answer

    given = parse(FLAGS, argv, command="knarr rm")
    if given.switch("help"):
        print(help_text())
        return 0
    containers = opened()

    def remove(word: str) -> str:
        try:
            container = containers.find(word)
            if container.is_running:
                if not given.switch("force"):
                    raise UsageError(
                        f"container {container.spec.name} is running",
                        hint=f"stop it first (knarr stop {word}), or use --force",
                    )
                with suppress(NotRunning):  # it has ended by itself this moment
                    answer(container, {"do": "stop", "signal": "KILL", "timeout_s": 0})
            removed(containers, container, with_volumes=given.switch("volumes"))
        except NotFound:
            if not given.switch("force"):
                raise
        except ContentError as error:
            raise KnarrError(error.message) from error
        return word

    return each(words_of(given, "knarr rm", "a container"), remove)
