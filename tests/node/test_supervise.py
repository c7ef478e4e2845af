"""Processes of a node: order, readiness, ends. All are real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from knarr.errors import KnarrError
from knarr.node.services import Service
from knarr.node.supervise import Supervisor

ENV = dict(os.environ)
# A service that says when it is ready, and writes down when it was told to end.
NOTIFIER = """
import os, signal, socket, sys, time
def end(*_):
    with open(sys.argv[2], "a") as log: log.write(sys.argv[1] + " ends\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
with open(sys.argv[2], "a") as log: log.write(sys.argv[1] + " starts\\n")
time.sleep(float(sys.argv[3]))
link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
link.connect(os.environ["NOTIFY_SOCKET"])
link.send(b"STATUS=well\\nREADY=1\\n")
while True: time.sleep(1)
"""


def notifier(name: str, log: Path, delay: float = 0.0) -> Service:
    return Service(name, (sys.executable, "-c", NOTIFIER, name, str(log), str(delay)))


def silent(_: str) -> None:
    return


def test_services_start_when_the_one_before_is_ready_and_end_the_other_way_round(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Supervisor(silent, tmp_path) as processes:
        processes.start(notifier("first", log, 0.2), ENV)
        processes.start(notifier("second", log), ENV)
    assert log.read_text().split("\n")[:-1] == ["first starts", "second starts", "second ends", "first ends"]
    assert list(tmp_path.iterdir()) == [log]


def test_a_service_that_ends_before_it_is_ready_is_a_failure(tmp_path: Path) -> None:
    with (
        pytest.raises(KnarrError, match="broken ended with status 3 before it was ready"),
        Supervisor(silent, tmp_path) as processes,
    ):
        processes.start(Service("broken", ("sh", "-c", "exit 3")), ENV)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(KnarrError, match="no-such-program: No such file"), Supervisor(silent, tmp_path) as processes:
        processes.start(Service("x", ("no-such-program",)), ENV)


def test_a_service_without_notification_is_ready_when_its_socket_is_there(tmp_path: Path) -> None:
    socket = tmp_path / "sock"
    words = ("sh", "-c", f"sleep 0.1; touch {socket}; exec sleep 60")
    with Supervisor(silent, tmp_path) as processes:
        processes.start(Service("old", words, tells=False, socket=str(socket)), ENV)
        assert socket.exists()


def test_the_end_of_a_service_ends_what_runs(tmp_path: Path) -> None:
    socket = tmp_path / "sock"
    words = ("sh", "-c", f"touch {socket}; sleep 0.2; exit 5")
    with Supervisor(silent, tmp_path) as processes:
        processes.start(Service("short", words, tells=False, socket=str(socket)), ENV)
        with pytest.raises(KnarrError, match="short ended with status 5: the node ends"):
            processes.run(("sleep", "60"), ENV)


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
def test_a_commands_status_is_given_as_a_shell_gives_it(tmp_path: Path, script: str, status: int) -> None:
    with Supervisor(silent, tmp_path) as processes:
        assert processes.run(("sh", "-c", script), ENV, main=True) == status


# In a process of its own, with one thread when the signals are blocked: those of a test run, which never blocked
# them, would get some; and in a shell's background SIGINT is ignored.
BEFORE = """
import os, signal, sys, threading, time
from pathlib import Path
from knarr.node.supervise import Supervisor, Told

signal.signal(signal.SIGINT, signal.default_int_handler)
work = Path(sys.argv[1])
"""
PASSED_ON = """
ready = work / "ready"

def send():
    while not ready.exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)

with Supervisor(print, work) as processes:
    sender = threading.Thread(target=send)
    sender.start()
    script = f"trap 'exit 9' TERM; touch {ready}; while :; do sleep 0.05; done"
    print(processes.run(("sh", "-c", script), os.environ, main=True))
    sender.join()
"""
ENDS = """
with Supervisor(print, work) as processes:
    os.kill(os.getpid(), signal.SIGTERM)
    processes.wait()
    print("waited")
    os.kill(os.getpid(), signal.SIGINT)
    try:
        print(processes.run(("sleep", "60"), os.environ))
    except Told:
        print("told")
"""


def said_apart(script: str, work: Path) -> str:
    done = subprocess.run([sys.executable, "-c", BEFORE + script, str(work)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_signals_go_on_to_the_command(tmp_path: Path) -> None:
    assert said_apart(PASSED_ON, tmp_path) == "9\n"


def test_a_signal_is_the_regular_end_of_waiting(tmp_path: Path) -> None:
    assert said_apart(ENDS, tmp_path) == "waited\ntold\n"


def test_one_that_does_not_end_is_killed_and_that_is_said(tmp_path: Path) -> None:
    socket, said = tmp_path / "sock", []
    words = ("sh", "-c", f"trap '' TERM; touch {socket}; while :; do sleep 0.05; done")
    with Supervisor(said.append, tmp_path) as processes:
        processes.start(Service("deaf", words, tells=False, socket=str(socket), stop_s=0.3), ENV)
    assert said == ["deaf did not end in 0 seconds: killed"]
