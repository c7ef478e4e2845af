"""The containers of one state directory.

    containers/<id>/config.json   what it was asked to be (`spec`)
                    state.json    what became of it (`state`)
                    lock          held by its monitor as long as that lives, or by who removes it
                    socket        where its monitor listens (`call`)
                    log           what it wrote (`log`)
                    tree/         its own changes to the image's files
                    root/         where its tree is mounted, in its monitor's mount namespace
    containers/names/<name>       a link that says which id has the name

The kernel drops the lock with the process that holds it, so a state of `running` without
a lock is one whose monitor was killed, or the machine with it: `is_lost`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from knarr.containers import spec as specs
from knarr.containers import state as states
from knarr.containers.spec import ContainerSpec
from knarr.containers.state import State
from knarr.errors import KnarrError, NotFound, UsageError

_NAMES = "names"
_PATIENCE_S = 10.0  # how long somebody who removes a container, or begins to run it, may take
_AGAIN_S = 0.02


class Container:
    """One container's directory."""

    def __init__(self, path: Path, spec: ContainerSpec) -> None:
        self.path = path
        self.spec = spec

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def state(self) -> State:
        return states.read(self.path / "state.json")

    def write_state(self, state: State) -> None:
        states.write(self.path / "state.json", state)

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def is_held(self) -> bool:
        """Whether its monitor lives, or somebody is about to remove it."""
        descriptor = self.try_hold(fcntl.LOCK_SH)  # two that look at once are in nobody's way
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    @property
    def is_running(self) -> bool:
        return self.state.status == "running" and self.is_held

    @property
    def is_lost(self) -> bool:
        """Whether it is said to run, but its monitor does not."""
        return self.state.status == "running" and not self.is_held

    def try_hold(self, kind: int = fcntl.LOCK_EX) -> int | None:
        """A descriptor that holds the container until it is closed; None: somebody else holds it.

        Raises:
            NotFound: the container was removed.
        """
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise _unknown(self.spec.name) from None
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.close(descriptor)
        raise _unknown(self.spec.name)

    @contextmanager
    def held(self, *, patience_s: float = _PATIENCE_S) -> Iterator[None]:
        """Nobody else runs or removes the container while the block lasts; waits for who does, but not long.

        Raises:
            KnarrError: it runs, or another command works on it for too long.
            NotFound: it was removed.
        """
        deadline = time.monotonic() + patience_s
        while (descriptor := self.try_hold()) is None:
            if time.monotonic() > deadline:
                raise KnarrError(f"container {self.spec.name} is in use: it runs, or another command works on it")
            time.sleep(_AGAIN_S)
        try:
            yield
        finally:
            os.close(descriptor)


class Containers:
    """All containers below the state directory `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "containers"

    def claim(self, name: str, id: str) -> None:
        """Let `name` be that of the container `id`, which is about to be created.

        Raises:
            UsageError: another container has it.
        """
        names = self.directory / _NAMES
        os.makedirs(names, mode=0o711, exist_ok=True)
        for _ in range(3):
            try:
                os.symlink(id, names / name)
                return
            except FileExistsError:
                other = self._named(name)
            if other is None:
                continue  # it was given up this moment
            if (self.directory / other).exists():
                raise UsageError(
                    f"the name {name} is taken by container {other[:12]}",
                    hint=f"remove it (knarr rm {name}), or choose another name",
                )
            with suppress(FileNotFoundError):
                os.unlink(names / name)  # of one that was never finished
        raise UsageError(f"the name {name} is being taken by another command")

    def directory_of(self, id: str) -> Path:
        """The new directory of the container `id`."""
        path = self.directory / id
        path.mkdir(mode=0o711, parents=True)
        return path

    def add(self, path: Path, spec: ContainerSpec) -> Container:
        """Make the container in the directory `path` known: from now on it is listed."""
        draft = path / ".config.json"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(specs.encode(spec))
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, path / "config.json")
        return Container(path, spec)

    def forget(self, container: Container) -> None:
        """Give up the name and the directory, whose tree is removed already; the container is held."""
        self.give_up(container.spec.name, container.id)
        path = container.path
        for name in _listed(path):
            if name not in ("lock", "root"):
                with suppress(IsADirectoryError):
                    os.unlink(path / name)
        with suppress(FileNotFoundError):
            os.rmdir(path / "root")
        os.unlink(path / "lock")
        os.rmdir(path)

    def give_up(self, name: str, id: str) -> None:
        """Free the name, if it is that of `id`."""
        if self._named(name) == id:
            with suppress(FileNotFoundError):
                os.unlink(self.directory / _NAMES / name)

    def all(self) -> list[Container]:
        """Every container, the newest first. One that cannot be read is left out."""
        found = []
        for name in _listed(self.directory):
            if name != _NAMES:
                with suppress(KnarrError, OSError):
                    found.append(self._read(name))
        found.sort(key=lambda container: container.spec.created_ns, reverse=True)
        return found

    def find(self, word: str) -> Container:
        """The container of a name, an id, or the beginning of one.

        Raises:
            NotFound: there is none.
            UsageError: several ids begin like this.
        """
        id = self._named(word) if word and "/" not in word else None
        if id is not None:
            with suppress(FileNotFoundError):
                return self._read(id)
        ids = [name for name in _listed(self.directory) if name != _NAMES and word and name.startswith(word)]
        if len(ids) > 1:
            raise UsageError(f"{word} is the beginning of several ids", hint="give more digits, or a name")
        if ids:
            with suppress(FileNotFoundError):
                return self._read(ids[0])
        near = self._near(word)
        raise _unknown(word, f"did you mean {near}?" if near else "")

    def _near(self, word: str) -> str:
        from difflib import get_close_matches

        return next(iter(get_close_matches(word, _listed(self.directory / _NAMES), n=1)), "")

    def _read(self, id: str) -> Container:
        path = self.directory / id
        return Container(path, specs.decode((path / "config.json").read_bytes(), str(path / "config.json")))

    def _named(self, name: str) -> str | None:
        try:
            return os.readlink(self.directory / _NAMES / name)
        except OSError:
            return None


def _unknown(word: str, hint: str = "") -> NotFound:
    return NotFound(f"there is no container {word}", hint=hint or "`knarr ps --all` lists what there is")


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
