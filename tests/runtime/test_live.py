"""Further processes in a container that runs, their signals, and terminals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.errors import RuntimeFailed
from knarr.runtime.live import Live, Process
from knarr.runtime.process import ProcessSpec, Stdio
from knarr.runtime.runner import Runtime
from knarr.runtime.terminal import opened
from knarr.scope import Outcome, Scope

pytestmark = [pytest.mark.root, pytest.mark.system]


def drop(stream: int, data: bytes) -> None:
    return None


def eventually(act: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not act():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def scope() -> Iterator[Scope]:
    with Scope() as scope:
        yield scope
        scope.cancel()


@pytest.fixture
def live(runtime: Runtime, tree: Path, scope: Scope) -> Live:
    """A container whose first process sleeps."""
    live = Live()
    spec = ProcessSpec(tree, ("/bin/sh", "-c", "echo up > /up; exec sleep 1000"))
    live.outcome = scope.attempt(runtime.run, spec, output=drop, scope=scope, live=live)  # type: ignore[attr-defined]
    return live


def test_a_further_process_sees_what_the_first_one_wrote(live: Live, tree: Path, scope: Scope) -> None:
    written: list[bytes] = []
    spec = ProcessSpec(tree, ("/bin/sh", "-c", "until [ -e /up ]; do :; done; cat /up; id -u; exit 3"), user="app")
    status = live.run(spec, output=lambda _, data: written.append(data), scope=scope, begun=lambda _: None)
    assert (status, b"".join(written)) == (3, b"up\n1000\n")


def test_a_process_is_sent_signals(live: Live, tree: Path, scope: Scope) -> None:
    begun: list[Process] = []
    spec = ProcessSpec(tree, ("/bin/sh", "-c", "trap 'exit 5' TERM; touch /ready; while :; do sleep 0.1; done"))
    outcome = scope.attempt(live.run, spec, output=drop, scope=scope, begun=begun.append)
    eventually((tree / "ready").exists)
    assert begun[0].signal(signal.SIGTERM)
    assert outcome.result() == 5
    assert not begun[0].signal(signal.SIGTERM)


def test_the_end_of_the_first_process_is_the_end_of_the_container(live: Live, tree: Path, scope: Scope) -> None:
    eventually(lambda: live.first is not None and live.first.signal(signal.SIGKILL))
    outcome: Outcome[object] = live.outcome  # type: ignore[attr-defined]
    outcome.result()
    with pytest.raises(RuntimeFailed, match="first process has ended"):
        live.run(ProcessSpec(tree, ("/bin/true",)), output=drop, scope=scope, begun=lambda _: None)


def test_what_is_read_comes_from_a_descriptor(live: Live, tree: Path, scope: Scope) -> None:
    written: list[bytes] = []
    ours, theirs = os.pipe()
    os.write(theirs, b"typed")
    os.close(theirs)
    spec = ProcessSpec(tree, ("/bin/cat",))
    live.run(spec, output=lambda _, data: written.append(data), scope=scope, stdio=Stdio(ours), begun=lambda _: None)
    os.close(ours)
    assert b"".join(written) == b"typed"


def test_a_terminal_has_the_size_that_it_is_given(live: Live, tree: Path, scope: Scope) -> None:
    written: list[bytes] = []
    begun: list[Process] = []
    ours, theirs = os.pipe()
    text = "until [ -e /go ]; do sleep 0.05; done; stty size; test -t 1 && read line && echo got $line"
    spec = ProcessSpec(tree, ("/bin/sh", "-c", text), terminal=True)
    with opened(lambda _, data: written.append(data), scope, source=ours) as stdio:
        outcome = scope.attempt(live.run, spec, output=drop, scope=scope, stdio=stdio, begun=begun.append)
        eventually(lambda: bool(begun) and begun[0].resize(40, 132))
        (tree / "go").touch()
        os.write(theirs, b"a line\n")
        assert outcome.result() == 0
    os.close(ours)
    os.close(theirs)
    text = b"".join(written).decode()
    assert "40 132\r\n" in text
    assert "got a line\r\n" in text
