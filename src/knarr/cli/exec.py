"""`knarr exec`: a further process in a container that runs."""

from __future__ import annotations

import os
from contextlib import suppress

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.leadingflags import split
from knarr.errors import UsageError

FLAGS = (
    Flag("detach", Kind.SWITCH, "", "do not wait for it", short="d"),
    Flag("interactive", Kind.SWITCH, "", "standard input is the process's", short="i"),
    Flag("tty", Kind.SWITCH, "", "the process has a terminal", short="t"),
    Flag("env", Kind.LIST, "NAME=VALUE", "set a variable; NAME alone takes the value it has here", short="e"),
    Flag("env-file", Kind.LIST, "FILE", "variables from a file, one a line"),
    Flag("user", Kind.TEXT, "USER[:GROUP]", "run as this user of the image (default: the container's)", short="u"),
    Flag("workdir", Kind.TEXT, "DIR", "where the command begins (default: the container's)", short="w"),
    Flag("privileged", Kind.SWITCH, "", "every right that knarr has"),
    Flag("detach-keys", Kind.TEXT, "KEYS", "what leaves a terminal (default: ctrl-p,ctrl-q)"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr exec --help` prints."""
    return (
        "Usage: knarr exec [OPTIONS] CONTAINER COMMAND [ARGUMENT...]\n\n"
        "Run a further process in a container that runs; the exit status is its own (126: it cannot be\n"
        f"executed; 127: there is no such command).\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr exec ARGUMENTS`."""
    from knarr.cli.run import told

    return told(lambda: _exec(argv))


def _exec(argv: list[str]) -> int:
    from knarr.cli.attached import LEFT, Attached, need_terminal
    from knarr.cli.containerplace import opened
    from knarr.containers import wire
    from knarr.containers.call import called

    flags, words = split(FLAGS, argv)
    given = parse(FLAGS, flags, command="knarr exec")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(words) < 2:
        raise UsageError("knarr exec needs a container and a command", hint="see `knarr exec --help`")
    detached, terminal = given.switch("detach"), given.switch("tty")
    if terminal and not detached:
        need_terminal()
    container = opened().find(words[0])
    with called(container, _request(given, words[1:])) as connection:

        def forward(number: int) -> None:
            with suppress(OSError):
                wire.tell(connection, wire.SIGNAL, number)

        watching = Attached(
            connection,
            stdin=given.switch("interactive") and not detached,
            terminal=terminal,
            detach_keys=given.text("detach-keys") or container.spec.detach_keys,
            forward=forward,
        )
        if detached:
            watching.await_start()
            return 0
        status = watching.run()
    return 0 if status == LEFT else status


def _request(given: Parsed, command: list[str]) -> dict[str, object]:
    from knarr.cli.attached import size
    from knarr.cli.runflags import absolute, environment

    terminal = given.switch("tty")
    env = environment(given, os.environ)
    return {
        "do": "exec",
        "args": command,
        "env": ["TERM=xterm", *env] if terminal else list(env),
        "cwd": absolute("workdir", given.text("workdir")),
        "user": given.text("user"),
        "terminal": terminal,
        "stdin": given.switch("interactive"),
        "size": size() if terminal else None,
        "privileged": given.switch("privileged"),
    }
