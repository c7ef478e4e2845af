"""Work on a container's files from inside of its tree: a child of this process whose root that is.

Nothing that the container does meanwhile leads the child out: links and `..` end at its root.
All that the work needs must be imported before, since modules in there are the container's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import IO, NoReturn

from knarr import linux
from knarr.config import Settings
from knarr.containers.store import Container
from knarr.errors import KnarrError, UsageError
from knarr.paths import clean, is_below
from knarr.snapshot.choose import choose
from knarr.snapshot.mounting import attach
from knarr.snapshot.namespace import take_rights

Work = Callable[[IO[bytes]], None]


def exchange(container: Container, path: str, there: Work, here: Work, *, outwards: bool) -> None:
    """Let `there` work inside of the container and `here` in this process, with a pipe between them.

    `outwards`: it leads from the container to here. `path` is what the work is about, for messages.

    Raises:
        KnarrError: of either.
    """
    source, target = os.pipe()
    back, says = os.pipe()
    child = os.fork()
    if not child:
        os.close(back)
        os.close(source if outwards else target)
        _be_inside(container, path, there, target if outwards else source, says, writes=outwards)
    os.close(says)
    os.close(target if outwards else source)
    failure: KnarrError | None = None
    try:
        with open(source if outwards else target, "rb" if outwards else "wb") as stream:
            here(stream)
    except BrokenPipeError:
        pass  # the child says why
    except KnarrError as error:
        failure = error
    with open(back, encoding="utf-8") as said:
        words = said.read()
    os.waitpid(child, 0)
    if words:
        raise KnarrError(f"container {container.spec.name}: {words}")
    if failure is not None:
        raise failure


def _be_inside(container: Container, path: str, work: Work, pipe: int, says: int, *, writes: bool) -> NoReturn:
    try:
        try:
            with _root(container, path) as root:
                os.chroot(root)
                os.chdir("/")
                with open(pipe, "wb" if writes else "rb") as stream:
                    work(stream)
        except KnarrError as error:
            os.write(says, error.message.encode(errors="replace"))
        except BrokenPipeError:
            pass  # the other side has failed, and says why
        except OSError as error:
            os.write(says, f"{error.filename or path}: {error.strerror or error}".encode(errors="replace"))
    finally:
        os._exit(0)


@contextmanager
def _root(container: Container, path: str) -> Iterator[str]:
    """Where the container's tree is, with the rights to be there. For a process of its own."""
    if container.is_running:
        pid = container.state.pid
        if os.geteuid():  # in the user namespace of its monitor, or one below
            owner = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            linux.setns(owner, linux.CLONE_NEWUSER)
        yield f"/proc/{pid}/root"
        return
    covered = [mount.target for mount in container.spec.mounts if is_below(clean(path), mount.target)]
    if covered:
        raise UsageError(f"{path}: what is shown at {covered[0]} is there only while the container runs")
    take_rights(os.environ)
    settings = Settings.from_environment(os.environ)
    place = container.path / "tree"
    with container.held():
        place.mkdir(mode=0o711, exist_ok=True)
        with closing(choose(settings.snapshots, settings.snapshotter or "auto")) as driver:
            mounts = driver.over(container.spec.snapshot or None, place)
        if not linux.may_mount():
            yield mounts[-1].source
            return
        at = container.path / "root"
        at.mkdir(mode=0o700, exist_ok=True)
        attach(mounts, at)  # in this process's own mount namespace, and until its end: nobody unmounts behind a chroot
        yield os.fspath(at)
