"""`knarr start`: run containers again that have ended, or were only created."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import words_of
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.containers.store import Container

FLAGS = (
    Flag("attach", Kind.SWITCH, "", "see what it writes, and wait for its end", short="a"),
    Flag("interactive", Kind.SWITCH, "", "the same, and standard input is the container's, if it takes one", short="i"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr start --help` prints."""
    return (
        "Usage: knarr start [OPTIONS] CONTAINER...\n\n"
        f"Run containers again that have ended, with the files that they left.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr start ARGUMENTS`."""
    from knarr.cli.run import told

    return told(lambda: _start(argv))


def _start(argv: list[str]) -> int:
    from knarr.cli.attached import need_terminal
    from knarr.cli.containerplace import each, opened
    from knarr.cli.containerstart import start
    from knarr.cli.run import attached

    given = parse(FLAGS, argv, command="knarr start")
    if given.switch("help"):
        print(help_text())
        return 0
    words = words_of(given, "knarr start", "a container")
    containers = opened()
    watches = given.switch("attach") or given.switch("interactive")
    if watches and len(words) > 1:
        raise UsageError("--attach is for one container at a time")

    def begin(word: str) -> str:
        container = containers.find(word)
        if not container.is_running:
            have_tree(container)
            start(container)
        return word

    if not watches:
        return each(words, begin)
    container = containers.find(words[0])
    if container.is_running:
        raise UsageError(f"container {words[0]} is running already", hint=f"use knarr attach {words[0]}")
    if container.spec.terminal:
        need_terminal()
    have_tree(container)
    return attached(container)


def have_tree(container: Container) -> None:
    """Unpack the image's files again, if a reboot or a power cut has cost them.

    Raises:
        KnarrError: they cannot be had any more.
    """
    from knarr.cli.inchild import value_of

    if container.spec.snapshot:
        value_of(lambda: _have_tree(container))


def _have_tree(container: Container) -> str:
    from knarr.cli.state import open_parts

    with open_parts(os.environ, with_trees=True) as parts:
        if parts.snapshotter.stat(container.spec.snapshot) is not None:
            return ""
    from knarr.config import Settings
    from knarr.engine.engine import Engine
    from knarr.progress import Silent
    from knarr.remote.settings import RegistrySettings
    from knarr.session.dockerconfig import DockerConfig
    from knarr.session.local import LocalSession

    session = LocalSession({}, {}, DockerConfig.from_environment(os.environ))
    engine = Engine(
        Settings.from_environment(os.environ),
        registry_settings=lambda: RegistrySettings.from_environment(os.environ),
    )
    with engine.open(session, Silent()) as job:
        job.trees.snapshot(container.spec.record)
    return ""
