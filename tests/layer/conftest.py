"""Fixtures that give functions: tar streams made and read back, trees looked at, overlays mounted."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from knarr.layer.tar import Entry
from knarr.layer.tar_read import Reader
from knarr.layer.tar_write import Writer

Members = list[tuple[Entry, bytes]]
MakeTar = Callable[..., io.BytesIO]
ReadTar = Callable[[bytes], Members]
Look = Callable[[Path], dict[str, tuple[object, ...]]]
Overlay = Callable[[list[Path], Path], AbstractContextManager[Path]]


@pytest.fixture(scope="session")
def make_tar() -> MakeTar:
    """A tar stream of entries; one given as (entry, content) gets its size from the content."""

    def make(*members: Entry | tuple[Entry, bytes]) -> io.BytesIO:
        out = io.BytesIO()
        writer = Writer(out, subsecond=True)
        for member in members:
            entry, content = (member, b"") if isinstance(member, Entry) else member
            writer.add(entry._replace(size=len(content)), content)
        writer.close()
        out.seek(0)
        return out

    return make


@pytest.fixture(scope="session")
def read_tar() -> ReadTar:
    """All entries of a tar with their content."""

    def read(data: bytes) -> Members:
        reader = Reader(io.BytesIO(data))
        return [(entry, b"".join(reader.content())) for entry in reader]

    return read


@pytest.fixture(scope="session")
def look() -> Look:
    """Everything about a tree that a layer carries, by path; hard links by the first path of the file."""

    def look(root: Path) -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {}
        links: dict[int, str] = {}
        for folder, folders, files in os.walk(root):
            for name in sorted(folders + files):
                path = os.path.join(folder, name)
                status = os.lstat(path)
                shown = os.path.relpath(path, root)
                first = shown if stat.S_ISDIR(status.st_mode) else links.setdefault(status.st_ino, shown)
                found[shown] = (*_facts(path, status), first)
        return found

    return look


def _facts(path: str, status: os.stat_result) -> tuple[object, ...]:
    content: str | bytes = b""
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        content = Path(path).read_bytes()
    names = [name for name in os.listxattr(path, follow_symlinks=False) if "overlay" not in name]
    xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names))
    owner = (status.st_uid, status.st_gid)
    return stat.filemode(status.st_mode), owner, status.st_rdev, int(status[8]), content, xattrs


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    """Mounts an overlay of `lowers` (topmost first) and `upper`, as the overlayfs snapshotter does."""

    @contextmanager
    def mounted(lowers: list[Path], upper: Path) -> Iterator[Path]:
        work, at = tmp_path / "work", tmp_path / "merged"
        for path in (upper, work, at):
            path.mkdir(exist_ok=True)
        layers = f"lowerdir={':'.join(map(str, lowers))},upperdir={upper},workdir={work}"
        options = f"{layers},redirect_dir=off,metacopy=off"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(at)], check=True)
        try:
            yield at
        finally:
            subprocess.run(["umount", str(at)], check=True)

    return mounted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root
