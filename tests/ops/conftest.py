"""A world of real parts on a temporary directory, and trees written down as text."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from knarr.cache.store import CacheStore
from knarr.config import Settings
from knarr.content.store import Store
from knarr.llb.ops import FileAction, FileOp
from knarr.ops import file
from knarr.ops.blobs import Blobs
from knarr.ops.trees import DiskTrees
from knarr.ops.world import World
from knarr.progress import Silent
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.runtime.runner import Runtime
from knarr.scope import Scope
from knarr.session.dockerconfig import DockerConfig
from knarr.session.local import LocalSession
from knarr.snapshot.choose import choose

EPOCH = 1577836800  # what files that nobody gave a time have


@pytest.fixture
def scope() -> Iterator[Scope]:
    with Scope() as scope:
        yield scope


@pytest.fixture(params=["overlayfs", "native"])
def world(request: pytest.FixtureRequest, tmp_path: Path, scope: Scope) -> Iterator[World]:
    """The parts of a build, on each snapshotter in turn."""
    yield from make_world(tmp_path / "state", scope, request.param)


@pytest.fixture
def overlay(tmp_path: Path, scope: Scope) -> Iterator[World]:
    """The parts of a build, on overlayfs."""
    yield from make_world(tmp_path / "state", scope, "overlayfs")


def make_world(root: Path, scope: Scope, driver: str, *hosts_dirs: Path) -> Iterator[World]:
    settings = Settings(root)
    for name in ("run", "flights"):
        (root / name).mkdir(parents=True, exist_ok=True)
    store = Store(settings.content)
    cache = CacheStore(settings.cache_db)
    snapshotter = choose(settings.snapshots, driver)
    session = LocalSession({}, {}, DockerConfig((root / "docker.json",)))
    registry = Registry(RegistrySettings(hosts_dirs=tuple(map(str, hosts_dirs))), session.credentials)
    blobs = Blobs(store, cache, snapshotter, lambda: registry, scope, Silent(), flights=root / "flights", jobs=1)
    trees = DiskTrees(snapshotter, cache, blobs, root, scope)
    runtime = Runtime(settings.run)
    yield World(settings, store, cache, snapshotter, trees, session, scope, Silent(), lambda: registry, lambda: runtime)
    trees.close()
    cache.close()
    store.close()
    registry.close()


def plant(root: Path, files: Mapping[str, str]) -> Path:
    """Make a tree: `name/` is a directory, a text behind `->` is a symlink, all else a file; plain modes, old times."""
    root.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for name, text in files.items():
        path = root / name
        for parent in reversed(path.relative_to(root).parents[:-1]):
            if not (root / parent).exists():
                (root / parent).mkdir()
                made.append(root / parent)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif text.startswith("->"):
            os.symlink(text[2:], path)
        else:
            path.write_text(text)
        made.append(path)
    for path in reversed(made):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    return root


def listing(root: Path | str) -> dict[str, str]:
    """What is below `root`: paths to contents; `name/` for directories, `->` before the target of a symlink."""
    found: dict[str, str] = {}
    for base, directories, files in os.walk(root):
        for name in sorted((*directories, *files)):
            path = Path(base, name)
            relative = str(path.relative_to(root))
            if path.is_symlink():
                found[relative] = f"->{os.readlink(path)}"
            elif path.is_dir():
                found[relative + "/"] = ""
            else:
                found[relative] = path.read_text() if path.is_file() else oct(stat.S_IFMT(path.lstat().st_mode))
    return found


def meta(path: Path | str) -> tuple[int, int, int, int]:
    """(permission bits, uid, gid, whole seconds of the time)."""
    found = os.lstat(path)
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, int(found.st_mtime)


Act = Callable[..., str]


def act_on(world: World) -> Act:
    """A function that runs a file op on a base (input 0) and saves its result, whose name it returns."""
    count = iter(range(1000))

    def act(base: str | None, *actions: FileAction, others: Sequence[str | None] = ()) -> str:
        name = f"made-{next(count)}"
        file.run(world, FileOp(actions), (base, *others), {0: name})
        assert isinstance(world.trees, DiskTrees)
        world.trees.save_chain([(name, ())], description="a test's")
        return name

    return act
