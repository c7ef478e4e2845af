"""`knarr stop`: ask containers to end, and kill those that do not."""

from __future__ import annotations

from contextlib import suppress

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import words_of

FLAGS = (
    Flag(
        "time",
        Kind.TEXT,
        "SECONDS",
        "how long to wait before it is killed (default: the container's; -1: for ever)",
        short="t",
    ),
    Flag("signal", Kind.TEXT, "SIGNAL", "what to send first (default: the container's)", short="s"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr stop --help` prints."""
    return (
        "Usage: knarr stop [OPTIONS] CONTAINER...\n\n"
        f"Ask containers to end, and kill those that do not in time.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr stop ARGUMENTS`."""
    from knarr.cli.containerplace import each, opened
    from knarr.cli.runflags import seconds
    from knarr.containers.call import NotRunning, answer
    from knarr.containers.callers import number_of

    given = parse(FLAGS, argv, command="knarr stop")
    if given.switch("help"):
        print(help_text())
        return 0
    patience = seconds("time", given.text("time")) if given.text("time") else None
    if given.text("signal"):
        number_of(given.text("signal"))
    containers = opened()

    def stop(word: str) -> str:
        container = containers.find(word)
        spec = container.spec
        timeout_s = spec.stop_timeout_s if patience is None else patience
        request = {"do": "stop", "signal": given.text("signal") or spec.stop_signal, "timeout_s": timeout_s}
        if container.is_running:
            with suppress(NotRunning):  # it has ended by itself this moment
                answer(container, request)
        return word

    return each(words_of(given, "knarr stop", "a container"), stop)
