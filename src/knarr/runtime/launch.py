"""A program of its own, run by `unmounted`: start a step's process, and end all that it leaves.

It imports nothing of knarr but, for steps that are supervised, `supervise`. The file named by
its argument says what to start, and under which root and user. Orphans become this
process's children, so that when the first process has ended, or somebody ended this one or its
parent, every other one can be found and killed: no PID namespace and no control group does it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_S = 10.0


def main() -> NoReturn:
    """Run the process to its end and end with its status (128 + signal)."""
    with open(sys.argv[1], encoding="utf-8", errors="surrogateescape") as file:
        told = json.load(file)
    libc = ctypes.CDLL(None, use_errno=True)
    signal.signal(signal.SIGTERM, _stop)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _note(told["pid_file"], str(os.getpid()))
    said: list[int] = []  # with which status the step's first process ended, when somebody is between it and us
    ours, theirs = socket.socketpair()
    first = os.fork()
    if not first:
        ours.close()
        _become(told, libc, theirs)
    theirs.close()
    if told["supervised"]:
        threading.Thread(target=_supervise, args=(told, ours, first, said), daemon=True).start()
    status = 128 + signal.SIGTERM
    try:
        while True:
            pid, ended = os.wait()
            if pid == first:
                code = os.waitstatus_to_exitcode(ended)
                status = said[0] if said else code if code >= 0 else 128 - code
                break
    except _Stopped:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_others()
    os._exit(status)


class _Stopped(BaseException):
    pass


def _stop(number: int, frame: object) -> None:
    raise _Stopped


def _supervise(told: dict[str, Any], channel: socket.socket, first: int, said: list[int]) -> None:
    """Answer what the step asks for and this place does not have; what cannot be kept is told in a file.

    proot, which is the process `first`, ends when the last of a step's processes does, and with that one's status.
    So the status of the step's own first process goes to `said`, and proot is ended.
    """
    sys.path.insert(0, told["supervised"]["source"])
    from knarr import virtual
    from knarr.runtime.supervise import Supervisor

    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    if not descriptors:
        return
    virtual.begin(owners=True, modes=True)

    def ended(status: int) -> None:
        said.append(status)
        _signal(first, signal.SIGKILL)

    uid, gid = told["supervised"]["user"]
    own = (os.geteuid(), os.getegid())
    in_use = told["supervised"]["own_in_use"]
    supervisor = Supervisor(
        descriptors[0], uid=uid, gid=gid, own=own, own_in_use=in_use, rooted=False, first_parent=first, ended=ended
    )
    supervisor.serve(lambda text: _note(told["supervised"]["refused"], text))


def _become(told: dict[str, Any], libc: Any, channel: socket.socket) -> NoReturn:
    """Be the step's process. A failure is told in the log, and is status 127 or 126."""
    log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    status = 126
    try:
        os.setpgid(0, 0)
        for name in (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(name, signal.SIG_DFL)
        for kind, soft, hard in told["limits"]:
            resource.setrlimit(kind, (soft, hard))
        if told["root"]:
            os.chroot(told["root"])
        for capability in told["dropped"]:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        if told["user"] is not None:
            uid, gid, groups = told["user"]
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        os.umask(0o022)
        os.chdir(told["cwd"])
        environment = dict(pair.split("=", 1) for pair in told["env"])
        program = _find(told["args"][0], environment.get("PATH", ""))
        if program is None:
            status = 127
            raise OSError(2, f"executable file `{told['args'][0]}` not found in $PATH")
        if told["supervised"]:
            sys.path.insert(0, told["supervised"]["source"])
            from knarr import linux
            from knarr.runtime import syscalls

            arch, numbers = syscalls.numbers()
            names: tuple[str, ...] = syscalls.ENDS
            if told["supervised"]["notes"]:
                names += (*syscalls.OWNERS, *syscalls.STATS, *syscalls.MODES)
            listener = linux.notify_of(arch, [numbers[name] for name in names if name in numbers])
            socket.send_fds(channel, [b"x"], [listener])
            os.close(listener)
        os.execve(program, told["args"], environment)
    except OSError as error:
        about = error.filename if isinstance(error.filename, str) else told["args"][0]
        os.write(log, f"{about}: {error.strerror}\n".encode(errors="replace"))
    finally:
        os._exit(status)


def _find(name: str, path: str) -> str | None:
    if "/" in name:
        return name
    places = (f"{place or '.'}/{name}" for place in path.split(":"))
    return next((found for found in places if os.path.isfile(found) and os.access(found, os.X_OK)), None)


def _note(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.rename(path + ".new", path)


def _end_others() -> None:
    """Kill all that descends from this process. They are stopped first: one that forks cannot outrun that."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        stopped: set[int] = set()
        while (found := _descendants()) - stopped and time.monotonic() < deadline:
            for pid in found - stopped:
                _signal(pid, signal.SIGSTOP)
            stopped |= found
        for pid in stopped:
            _signal(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _descendants() -> set[int]:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as status:
                    fields = status.read().rpartition(b") ")[2].split()
            except OSError:
                continue
            if fields[0] not in (b"Z", b"X"):
                parents[int(name)] = int(fields[1])
    found: set[int] = set()
    fresh = {os.getpid()}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return


if __name__ == "__main__":
    main()
