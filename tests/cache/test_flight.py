from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from knarr.cache.flight import flight
from knarr.errors import Cancelled
from knarr.scope import Scope


def test_who_comes_first_does_not_wait_and_leaves_nothing(tmp_path: Path) -> None:
    with Scope() as scope, flight(tmp_path / "flights", "key", scope=scope) as waited:
        assert not waited
    assert os.listdir(tmp_path / "flights") == []


def test_flights_of_other_keys_go_side_by_side(tmp_path: Path) -> None:
    with Scope() as scope, flight(tmp_path, "one", scope=scope), flight(tmp_path, "two", scope=scope) as waited:
        assert not waited


def test_one_after_the_other_and_the_later_ones_know_that_they_waited(tmp_path: Path) -> None:
    inside = []
    most = []
    waits = []
    lock = threading.Lock()

    def fly(scope: Scope) -> None:
        with flight(tmp_path, "key", scope=scope) as waited:
            with lock:
                inside.append(1)
                most.append(len(inside))
                waits.append(waited)
            scope.sleep(0.01)
            with lock:
                inside.pop()

    with Scope() as scope:
        for _ in range(6):
            scope.start(fly, scope)
    assert set(most) == {1}
    assert waits[0] is False
    assert len(waits) == 6
    assert any(waits)


def test_a_flight_ends_when_its_block_fails(tmp_path: Path) -> None:
    with Scope() as scope:
        with pytest.raises(ValueError, match="inside"), flight(tmp_path, "key", scope=scope):
            raise ValueError("inside")
        with flight(tmp_path, "key", scope=scope) as waited:
            assert not waited


def test_a_waiter_can_be_cancelled(tmp_path: Path) -> None:
    with Scope() as holder, flight(tmp_path, "key", scope=holder):
        waiting = Scope()
        threading.Timer(0.05, waiting.cancel).start()
        with pytest.raises(Cancelled), flight(tmp_path, "key", scope=waiting):
            pytest.fail("two in one flight")


HOLDER = """
import sys, time
from pathlib import Path
from knarr.cache.flight import flight
from knarr.scope import Scope
with Scope() as scope, flight(Path(sys.argv[1]), "key", scope=scope):
    print("flying", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_ends_its_flight(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "flying\n"
        threading.Timer(0.1, os.kill, (holder.pid, signal.SIGKILL)).start()
        with Scope() as scope, flight(tmp_path, "key", scope=scope) as waited:
            assert waited
    assert os.listdir(tmp_path) == []


COUNTER = """
import sys
from pathlib import Path
from knarr.cache.flight import flight
from knarr.scope import Scope
folder = Path(sys.argv[1])
with Scope() as scope:
    for _ in range(40):
        with flight(folder / "flights", "key", scope=scope):
            value = int((folder / "count").read_text())
            (folder / "count").write_text(str(value + 1))
"""


def test_processes_never_fly_together(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    runs = [subprocess.Popen([sys.executable, "-c", COUNTER, str(tmp_path)]) for _ in range(4)]
    assert [run.wait() for run in runs] == [0] * 4
    assert (tmp_path / "count").read_text() == "160"
