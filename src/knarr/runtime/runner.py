"""Runs a step: a `ProcessSpec` becomes a bundle, an OCI runtime runs it, and nothing of it stays.

    runtime = Runtime(Path("/var/lib/knarr/run"))
    runtime.sweep()  # what a killed process left
    with Scope() as scope:
        ended = runtime.run(ProcessSpec(tree, ("/bin/true",)), output=print, scope=scope)

Below the state directory: `owners/` tells which processes live, `bundles/<owner>/<n>/`
has what one container needs, `crun/` and `runc/` are those programs' own.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr import linux, virtual
from knarr.errors import RuntimeFailed, Unsupported
from knarr.owner import Owner
from knarr.runtime import bundle, cgroups, child, mounts, oci, startfailure, workdir, workspace
from knarr.runtime.emulate import Emulator
from knarr.runtime.privatetable import Emulation
from knarr.runtime.process import SANDBOX, Exit, Output, ProcessSpec, Stdio
from knarr.runtime.stubs import Stubs
from knarr.runtime.users import User, resolve_user
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.network.steps import Lent, Networks
    from knarr.network.usermode import UserMode
    from knarr.runtime.live import Live

_LAST = 4096  # bytes of stderr in which a runtime's last words are looked for
_NO_STDIO = Stdio()
_NETWORKS = "networks"  # below the state directory
_KILLED = 137  # 128 + SIGKILL: what the OOM killer sends


def _nothing() -> None:
    pass


class Runtime:
    """The OCI runtime of this machine. Safe from several threads; several processes may share `state_dir`."""

    def __init__(
        self,
        state_dir: Path,
        wanted: str = "",
        *,
        emulator: Emulator | None = None,
        networks: Callable[[], Networks | UserMode | None] = _nothing,
    ) -> None:
        """`wanted` is crun, runc, a path, or empty for what works here; `emulator` says how foreign platforms run.

        `networks` is asked once, by the first step that may have a network of its own; with none, steps use
        the machine's.
        """
        self._state = Path(os.path.abspath(state_dir))
        self._wanted = wanted
        self._emulator = emulator or Emulator(self._state / "emulation")
        self._lock = threading.Lock()
        self._program: oci.Program | None = None
        self._owner: Owner | None = None
        self._numbers = count(1)
        self._ask_networks = networks
        self._networks: Networks | UserMode | None = None
        self._networks_asked = False

    def run(
        self,
        spec: ProcessSpec,
        *,
        output: Output,
        scope: Scope,
        meanwhile: Callable[[], object] = _nothing,
        stdio: Stdio = _NO_STDIO,
        live: Live | None = None,
    ) -> Exit:
        """Run one container to its end; blocks.

        `live` lets others act on the container while it runs. `meanwhile` is called while
        the container starts: ten milliseconds in which this process has nothing to do.

        Raises:
            RuntimeFailed: the container could not be started.
            NotFound: the user is not in the image.
            Unsupported: there is no OCI runtime, or no emulator for the platform.
            Cancelled: the scope was cancelled; all processes of the container have ended.
        """
        program, owner = self._ready()
        emulation = self._emulator.emulation(spec.platform)
        user = resolve_user(spec.rootfs, spec.user)
        id = f"{owner.token}-{next(self._numbers)}"
        program, group = program.group(spec, id)
        with (
            self._network(spec, emulation) as network,
            workspace.workspace(self._bundles / owner.token, id) as place,
            workdir.made(spec, user),
        ):
            around = self._surroundings(group, spec, place, emulation, network, program)
            with _mount_points(spec, around), ExitStack() as stack:
                configuration = bundle.configuration(spec, user, around)
                if spec.devices:
                    from knarr.runtime import cdibundle

                    cdibundle.add(configuration, spec.devices, bind_nodes=bool(around.user_namespace))
                if virtual.notes_owners():
                    stack.enter_context(_answering(spec, user, place, configuration, scope))
                _write(place, configuration)
                return self._execute(program, spec, place, group, id, output, scope, meanwhile, stdio, live)

    def expect(self, scope: Scope) -> None:
        """Say that a container will start in some ten milliseconds; returns at once."""
        scope.attempt(cgroups.hasten_entry)

    def sweep(self) -> int:
        """End and remove what processes that were killed left behind; returns how many containers that were."""
        from knarr.runtime.sweep import sweep

        found = sweep(self._state)
        if (self._state / _NETWORKS / "owners").exists():
            from knarr.network import steps

            steps.sweep(self._state / _NETWORKS)
        return found

    def close(self) -> None:
        """Let go of networks, of the emulation's namespaces and of this process's claim."""
        self._emulator.close()
        with self._lock:
            owner, self._owner = self._owner, None
            networks, self._networks, self._networks_asked = self._networks, None, False
        if networks is not None:
            networks.close()
        if owner is not None and owner.is_ours:
            try:
                with suppress(FileNotFoundError):
                    (self._bundles / owner.token).rmdir()
                Owner.forget(self._state / "owners", owner.token)
            except OSError:  # a container could not be removed: it is a dead owner's from now on, and swept
                pass
            owner.release()

    @property
    def _bundles(self) -> Path:
        return self._state / "bundles"

    def _ready(self) -> tuple[oci.Program, Owner]:
        with self._lock:
            if self._program is None:
                os.makedirs(self._state, mode=0o711, exist_ok=True)
                self._program = oci.choose(self._state, self._wanted)
            return self._program, self._claimed()

    def _claimed(self) -> Owner:
        """This process's claim; the lock is held."""
        if self._owner is None or not self._owner.is_ours:
            self._owner = Owner.claim(self._state / "owners")
        return self._owner

    def _network(self, spec: ProcessSpec, emulation: Emulation | None) -> AbstractContextManager[Lent | None]:
        """The network that `spec` has to itself; None: it has the machine's, or none at all."""
        if spec.network != "default":
            return nullcontext()
        with self._lock:
            if not self._networks_asked:
                self._networks, self._networks_asked = self._ask_networks(), True
            networks = self._networks
        if networks is None:
            return nullcontext()
        owner = emulation.user_namespace if emulation is not None else ""
        return networks.lent(owner, name=spec.hostname if spec.hostname != SANDBOX else "")

    def _surroundings(
        self,
        group: oci.Group,
        spec: ProcessSpec,
        place: workspace.Workspace,
        emulation: Emulation | None,
        network: Lent | None,
        program: oci.Program,
    ) -> bundle.Surroundings:
        foreign = emulation is not None and bool(emulation.user_namespace)
        shares_network = spec.network != "none" and network is None
        bind_sys = (foreign or linux.is_root_by_namespace()) and shares_network
        cgroup_mount = bool(group.told) and not foreign
        system = mounts.system_mounts(spec, bind_sys=bind_sys, cgroups=cgroup_mount)
        system += mounts.etc_mounts(*place.write_etc(spec, network))
        asked = mounts.asked_for(spec, place.write_secrets(spec))
        if spec.devices:
            from knarr.runtime import cdibundle

            asked += cdibundle.mounts(spec.devices, bind_nodes=foreign)
        return bundle.Surroundings(
            mounts=mounts.merge(system, asked),
            cgroup=group.told,
            network_namespace=network.path if network is not None else "",
            user_namespace=emulation.user_namespace if emulation else "",
            uid_map=emulation.uid_map if emulation else (),
            gid_map=emulation.gid_map if emulation else (),
            masked=mounts.mounted_below_sys(but="/sys/fs/cgroup" if cgroup_mount else "") if bind_sys else (),
            filter_cache=self._state / "seccomp" if program.name == "crun" and not virtual.notes_owners() else None,
        )

    def _execute(
        self,
        program: oci.Program,
        spec: ProcessSpec,
        place: workspace.Workspace,
        group: oci.Group,
        id: str,
        output: Output,
        scope: Scope,
        meanwhile: Callable[[], object],
        stdio: Stdio,
        live: Live | None,
    ) -> Exit:
        def kill() -> None:
            if group.path:
                cgroups.kill(group.path)
            else:
                place.kill_by_number()

        last_words = b""

        def listen(stream: int, data: bytes) -> None:
            nonlocal last_words
            if stream == 2:
                last_words = data[-_LAST:]
            output(stream, data)

        kills = cgroups.killed_for_memory()
        ended = at_limit = False
        with group.watch() as watch:
            try:
                argv = program.run(id, place.path)
                with live.running(program, id, place.path) if live is not None else nullcontext():
                    status = child.run(argv, output=listen, scope=scope, kill=kill, meanwhile=meanwhile, stdio=stdio)
                ended = True
                at_limit = bool(status) and watch is not None and watch.hit()
            finally:
                self._clear(program, id, group, ended=ended)
        if status:
            words = startfailure.runtime_words(place.path, last_words, spec.args)
            if words:
                raise startfailure.could_not_start(program.name, words, spec.args)
        return Exit(status, status == _KILLED and cgroups.killed_for_memory() > kills, at_limit)

    def _clear(self, program: oci.Program, id: str, group: oci.Group, *, ended: bool) -> None:
        """Remove what the runtime leaves of a container."""
        if not ended or program.knows(id):
            from knarr.runtime.sweep import discard

            discard(program, id, group.path)
        if group.path:
            cgroups.forget_hidden(group.path)
        if group.is_limited:
            cgroups.remove(group.path)


def _answering(
    spec: ProcessSpec, user: User, place: workspace.Workspace, configuration: dict[str, Any], scope: Scope
) -> AbstractContextManager[object]:
    """Answers the step's calls about owners and users, where there is one id for all; the runtime is told where.

    Raises:
        Unsupported: nobody knows the calls of this machine, and the step is another user's.
    """
    from knarr.runtime.notify import Listener, is_possible

    if is_possible():
        listener = Listener(place.path, user, os.fspath(spec.rootfs), scope)
        listener.add(configuration)
        return listener
    if user.uid or user.gid:
        raise Unsupported(
            f"a step cannot run as {user.uid}:{user.gid} in a user namespace with one id",
            hint="give this user ids in /etc/subuid and /etc/subgid: knarr doctor tells how",
        )
    return nullcontext()


@contextmanager
def _mount_points(spec: ProcessSpec, around: bundle.Surroundings) -> Iterator[None]:
    try:
        stubs = Stubs.make(mounts.points(os.fspath(spec.rootfs), around.mounts))
    except OSError as error:
        raise RuntimeFailed(
            f"a place to mount at cannot be made: {error.filename or ''}: {error.strerror}",
            hint="check the targets of the step's mounts",
        ) from error
    try:
        yield
    finally:
        stubs.remove()


def _write(place: workspace.Workspace, configuration: object) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(f"{place.path}/config.json", flags, 0o600)  # the variables in it may be secrets
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(json.dumps(configuration, ensure_ascii=False))
