"""`knarr attach`: be the terminal of a container that runs, or see what it writes."""

from __future__ import annotations

from contextlib import suppress

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import KnarrError, UsageError

FLAGS = (
    Flag("no-stdin", Kind.SWITCH, "", "only watch"),
    Flag("sig-proxy", Kind.OPTIONAL, "BOOL", "pass signals of this command on (default: true)"),
    Flag("detach-keys", Kind.TEXT, "KEYS", "what leaves a terminal (default: the container's, ctrl-p,ctrl-q)"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr attach --help` prints."""
    return (
        "Usage: knarr attach [OPTIONS] CONTAINER\n\n"
        f"Be the terminal of a container that runs, or see what it writes.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr attach ARGUMENTS`."""
    from knarr.cli.run import told

    return told(lambda: _attach(argv))


def _attach(argv: list[str]) -> int:
    from knarr.cli.attached import LEFT, Attached, need_terminal, size
    from knarr.cli.containerplace import opened
    from knarr.containers.call import NotRunning, answer, called

    given = parse(FLAGS, argv, command="knarr attach")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr attach needs one container", hint="see `knarr attach --help`")
    container = opened().find(given.words[0])
    spec = container.spec
    stdin = spec.stdin and not given.switch("no-stdin")
    if spec.terminal and stdin:
        need_terminal()

    def forward(number: int) -> None:
        if given.text("sig-proxy", "true") != "false":
            with suppress(NotRunning, KnarrError):
                answer(container, {"do": "signal", "number": number})

    request = {"do": "attach", "stdin": stdin, "size": size() if spec.terminal else None}
    with called(container, request) as connection:
        watching = Attached(
            connection,
            stdin=stdin,
            terminal=spec.terminal,
            detach_keys=given.text("detach-keys") or spec.detach_keys,
            forward=forward,
            ends_stdin=False,
        )
        status = watching.run()
    return 0 if status == LEFT else status
