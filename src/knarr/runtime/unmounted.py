"""Steps where nothing can be mounted: by chroot for root, by path translation (proot) for anybody else.

There is no OCI runtime without mounts, so the place itself (a container, a Pod) is what
keeps a step from the machine; steps are kept from one another and from knarr by less: a
root directory of their own, and for root no right to leave it (CAP_SYS_CHROOT is dropped).

chroot   What a step shall see is put into its tree and taken out again (`placing`). There is no /proc.
proot    A debugger of each process that translates its paths; slow with many system calls, and with a
         real /proc and /dev. It also runs foreign platforms, through qemu, with no table in the kernel.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr import virtual
from knarr.errors import Unsupported
from knarr.paths import clean, is_below
from knarr.runtime import bundle, cgroups, child, marks, placing, proot, startfailure, workdir, workspace
from knarr.runtime.emulate import emulator_of, host_runs
from knarr.runtime.placing import Thing
from knarr.runtime.process import BindMount, Exit, Output, ProcessSpec, SecretFile, Stdio, TmpfsMount
from knarr.runtime.runner import Runtime
from knarr.runtime.stubs import Point, Stubs
from knarr.runtime.users import User, has_group, has_user, resolve_user
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.runtime.live import Live

_LAUNCH = Path(__file__).with_name("launch.py")
_SYS_CHROOT = 18  # with it, root leaves any chroot
_LAST = 4096
_NO_STDIO = Stdio()


def _nothing() -> None:
    pass


class Unmounted(Runtime):
    """Runs steps without mounts and namespaces; otherwise as `Runtime`."""

    def __init__(self, state_dir: Path, clone: Callable[[str, str], object]) -> None:
        """`clone` copies a tree into an empty directory."""
        super().__init__(state_dir)
        self._clone = clone
        self._is_root = not os.geteuid()

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
        _require_possible(spec, live)
        with self._lock:
            os.makedirs(self._state, mode=0o711, exist_ok=True)
            owner = self._claimed()
        user = resolve_user(spec.rootfs, spec.user)
        qemu = "" if host_runs(spec.platform) else emulator_of(spec.platform)
        id = f"{owner.token}-{next(self._numbers)}"
        with ExitStack() as stack:
            place = stack.enter_context(workspace.workspace(self._bundles / owner.token, id))
            stack.callback(placing.recover, Path(place.path))
            stack.enter_context(workdir.made(spec, user))
            root = os.fspath(spec.rootfs)
            if spec.readonly_root:  # it is a committed tree: the step gets one that it may spoil
                root = f"{place.path}/root"
                os.mkdir(root)
                stack.callback(placing.remove, root)
                self._clone(os.fspath(spec.rootfs), root)
            if self._is_root and not qemu:
                stack.enter_context(self._borrowing(spec, scope))
                stack.enter_context(placing.placed(root, self._things(spec, place), place.path))
                return self._launch(_chrooted(spec, user, root), spec, place, output, scope, meanwhile, stdio)
            shown = proot.binds(spec, place.path)
            told = proot.told(spec, user, root, shown, qemu=qemu, is_root=self._is_root)
            points = _outermost(shown, root)
            if qemu:
                points += proot.points_for_qemu(root)
            stack.callback(Stubs.make(points).remove)
            told["supervised"] = _supervision(spec, user, place, notes=not self._is_root)
            if self._is_root:
                return self._launch(told, spec, place, output, scope, meanwhile, stdio)
            with _noting(user, root, place):
                return self._launch(told, spec, place, output, scope, meanwhile, stdio)

    def expect(self, scope: Scope) -> None:
        return

    def _things(self, spec: ProcessSpec, place: workspace.Workspace) -> list[Thing]:
        hosts, resolv = place.write_etc(spec)
        found = [
            Thing("/dev", True, placing.make_devices),
            Thing("/proc", True, lambda path: os.mkdir(path, 0o555)),
            Thing("/sys", True, lambda path: os.mkdir(path, 0o555)),
            Thing("/etc/resolv.conf", False, _copied_file(resolv)),
            Thing("/etc/hosts", False, _copied_file(hosts)),
        ]
        asked = [self._thing(mount) for mount in spec.mounts]
        return found + sorted(asked, key=lambda thing: thing.target.count("/"))

    def _thing(self, mount: object) -> Thing:
        if isinstance(mount, TmpfsMount):
            return Thing(clean(mount.target), True, _made_directory(mount.mode), mode=mount.mode)
        if isinstance(mount, SecretFile):
            return Thing(clean(mount.target), False, _written(mount))
        assert isinstance(mount, BindMount)
        source, target = os.fspath(mount.source), clean(mount.target)
        if not os.path.isdir(source):
            return Thing(target, False, _linked_or_copied(mount.source))
        if mount.readonly:
            return Thing(target, True, self._cloned(source))
        return Thing(target, True, borrowed=source)

    def _cloned(self, source: str) -> Callable[[str], None]:
        def put(path: str) -> None:
            os.mkdir(path)
            self._clone(source, path)

        return put

    @contextmanager
    def _borrowing(self, spec: ProcessSpec, scope: Scope) -> Iterator[None]:
        """Have the directories that are moved into a step for this one alone: a shared cache is there only once."""
        moved = {os.fspath(m.source) for m in spec.mounts if isinstance(m, BindMount) and not m.readonly}
        locks: list[int] = []
        try:
            for source in sorted(moved):
                os.makedirs(self._state / "borrowed", mode=0o711, exist_ok=True)
                name = hashlib.sha256(os.fsencode(source)).hexdigest()
                locks.append(os.open(self._state / "borrowed" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                while not _locked(locks[-1]):
                    scope.sleep(0.05)
            yield
        finally:
            for lock in locks:
                os.close(lock)

    def _launch(
        self,
        told: dict[str, Any],
        spec: ProcessSpec,
        place: workspace.Workspace,
        output: Output,
        scope: Scope,
        meanwhile: Callable[[], object],
        stdio: Stdio,
    ) -> Exit:
        last_words = b""

        def listen(stream: int, data: bytes) -> None:
            nonlocal last_words
            if stream == 2:
                last_words = (last_words + data)[-_LAST:]  # proot says it piece by piece
            output(stream, data)

        told = {
            "supervised": None,
            **told,
            "log": f"{place.path}/log",
            "pid_file": f"{place.path}/pid",
            "limits": [
                (getattr(resource, f"RLIMIT_{limit.name.upper()}"), limit.soft, limit.hard) for limit in spec.ulimits
            ],
        }
        descriptor = os.open(f"{place.path}/config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(told, file, ensure_ascii=False)
        kills = cgroups.killed_for_memory()
        argv = [sys.executable, "-I", "-S", os.fspath(_LAUNCH), f"{place.path}/config.json"]
        status = child.run(
            argv,
            output=listen,
            scope=scope,
            kill=lambda: _terminate(f"{place.path}/pid"),
            meanwhile=meanwhile,
            stdio=stdio,
        )
        if status:
            words = startfailure.runtime_words(place.path, b"", spec.args) or startfailure.proot_words(last_words)
            if words:
                raise startfailure.could_not_start("chroot" if told["root"] else "proot", words, spec.args)
        return Exit(status, status == 128 + signal.SIGKILL and cgroups.killed_for_memory() > kills)


def _supervision(spec: ProcessSpec, user: User, place: workspace.Workspace, *, notes: bool) -> dict[str, Any]:
    return {
        "source": os.fspath(_LAUNCH.parents[2]),
        "user": [user.uid, user.gid],
        "own_in_use": has_user(spec.rootfs, os.geteuid()) or has_group(spec.rootfs, os.getegid()),
        "refused": f"{place.path}/refused",
        "notes": notes,
    }


@contextmanager
def _noting(user: User, root: str, place: workspace.Workspace) -> Iterator[None]:
    """Have noted what the step does with owners, modes and devices, and who makes what.

    Raises:
        Unsupported: something that the step did cannot be kept.
    """
    unnoted = marks.before(root) if user.uid or user.gid else None
    yield
    marks.unlock(root)
    if unnoted is not None:
        marks.after(root, user, unnoted)
    with suppress(FileNotFoundError):
        what = Path(place.path, "refused").read_text(encoding="utf-8", errors="surrogateescape")
        raise marks.cannot_keep(what.removeprefix(root))


def _outermost(shown: Sequence[proot.Bind], root: str) -> list[Point]:
    """The places that the tree itself must have: not those inside another one."""
    found: list[Point] = []
    for number, bind in enumerate(shown):
        if not any(is_below(bind.target, above.target) for above in shown[:number]):
            found.append(bind.point(root))
    return found


def _require_possible(spec: ProcessSpec, live: Live | None) -> None:
    """Refuse what this place cannot do, rather than do less than was asked for.

    Raises:
        Unsupported: the step asks for it.
    """
    way_out = "build where user namespaces are allowed: knarr doctor tells what is missing"
    if spec.network == "none":
        raise Unsupported("RUN --network=none: this place allows no network namespace", hint=way_out)
    if spec.limits is not None:
        from knarr.runtime.delegation import refusal

        reason = "steps have no control group of their own in this place"
        raise refusal(spec.limits, reason, "limit the container that knarr runs in: its steps share its limits")
    if spec.devices:
        raise Unsupported("RUN --device: this place cannot give devices to a step", hint=way_out)
    if live is not None or spec.terminal:
        raise Unsupported("a container for a frontend's processes cannot be had in this place", hint=way_out)


def _chrooted(spec: ProcessSpec, user: User, root: str) -> dict[str, Any]:
    return {
        "root": root,
        "args": list(spec.args),
        "env": bundle.environment(spec, user),
        "cwd": clean(spec.cwd),
        "user": [user.uid, user.gid, [user.gid, *user.groups]],
        "dropped": [] if spec.security == "insecure" else [_SYS_CHROOT],
    }


def _terminate(pid_file: str) -> None:
    with suppress(OSError, ValueError):  # not started yet, or over
        os.kill(int(Path(pid_file).read_text()), signal.SIGTERM)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _copied_file(source: Path) -> Callable[[str], None]:
    def put(path: str) -> None:
        _write_new(path, source.read_bytes(), 0o644)

    return put


def _linked_or_copied(source: Path) -> Callable[[str], None]:
    """A socket is only reached by itself; of a file the step gets a copy, since it may write to it."""

    def put(path: str) -> None:
        if source.is_socket():
            os.link(source, path)
            return
        info = os.stat(source)
        _write_new(path, source.read_bytes(), info.st_mode & 0o7777)
        virtual.chown(path, info.st_uid, info.st_gid)

    return put


def _written(secret: SecretFile) -> Callable[[str], None]:
    def put(path: str) -> None:
        _write_new(path, secret.value, secret.mode)
        os.chown(path, secret.uid, secret.gid)

    return put


def _made_directory(mode: int) -> Callable[[str], None]:
    def put(path: str) -> None:
        os.mkdir(path)
        os.chmod(path, mode)

    return put


def _write_new(path: str, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(descriptor, mode)
