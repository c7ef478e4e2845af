"""Packages, archives and files as tars of an image's root directory, without running anything of them.

So an image for another platform needs no emulation. What the packages' scripts would
do, as far as a node needs it, is done here: accounts, the bundle of certificates,
the choice between programs of one purpose. What is installed is told in
var/lib/dpkg/status.d, a file for each package, where scanners look for it.

Formats: deb(5), deb-control(5), ar(5).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, BinaryIO, cast

from knarr.errors import ContentError, LayerInvalid
from knarr.node.components import Component

_AR = b"!<arch>\n"
_HEADER = 60  # bytes of an ar member's
_KEPT = ("usr/share/base-passwd/", "usr/share/ca-certificates/", "usr/share/base-files/nsswitch.conf")
_LINKS = {  # alternatives, as Debian's own scripts choose them
    "usr/bin/awk": "mawk",
    "usr/sbin/iptables": "iptables-nft",
    "usr/sbin/iptables-save": "iptables-nft-save",
    "usr/sbin/iptables-restore": "iptables-nft-restore",
    "usr/sbin/ip6tables": "ip6tables-nft",
    "usr/sbin/ip6tables-save": "ip6tables-nft-save",
    "usr/sbin/ip6tables-restore": "ip6tables-nft-restore",
}


class RootTar:
    """A tar of a root directory, written entry by entry. `kept` holds the small files that `finish` needs."""

    def __init__(self, path: Path, leave_out: Iterable[str] = ()) -> None:
        self._path = path
        self._leave_out = tuple(leave_out)
        self._stack = ExitStack()
        self._names: set[str] = set()
        self.kept: dict[str, bytes] = {}

    def __enter__(self) -> RootTar:
        self._tar = self._stack.enter_context(tarfile.open(self._path, "w", format=tarfile.PAX_FORMAT))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def add_package(self, deb: Path, leave_out: Iterable[str] = ()) -> None:
        """What a package installs, and a note that it is there.

        Raises:
            ContentError: it is no package.
        """
        patterns = (*self._leave_out, *leave_out)
        seen = set()
        try:
            with open(deb, "rb") as file:
                for name, member in _members(file):
                    seen.add(name.partition(".")[0])
                    if name.startswith("control.tar"):
                        self._note(member)
                    elif name.startswith("data.tar"):
                        self._data(member, patterns)
        except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
            raise ContentError(f"{deb.name}: not a Debian package: {error}") from error
        if not seen >= {"control", "data"}:
            raise ContentError(
                f"{deb.name}: not a Debian package: it has no {'data' if 'control' in seen else 'control'}"
            )

    def _note(self, member: IO[bytes]) -> None:
        with tarfile.open(fileobj=member, mode="r|*") as tar:
            for entry in tar:
                if entry.name.removeprefix("./") == "control" and (found := tar.extractfile(entry)):
                    text = found.read()
                    name = text.partition(b"Package: ")[2].split(None, 1)[0].decode()
                    self.add_file(f"var/lib/dpkg/status.d/{name}", text)

    def _data(self, member: IO[bytes], patterns: tuple[str, ...]) -> None:
        with tarfile.open(fileobj=member, mode="r|*") as tar:
            for entry in tar:
                entry.name = _inside(entry.name)
                if entry.islnk():
                    entry.linkname = _inside(entry.linkname)
                if not entry.name or is_left_out(entry.name, patterns):
                    continue
                data = tar.extractfile(entry) if entry.isreg() else None
                if data is not None and entry.name.startswith(_KEPT):
                    self.kept[entry.name] = data.read()
                    data = io.BytesIO(self.kept[entry.name])
                self._add(entry, data)

    def add_archive(self, archive: Path, component: Component) -> None:
        """The members of a tar (gzip, bzip2, xz or none) that the component names; of a plain program, it alone.

        Raises:
            ContentError: it lacks one.
        """
        missing = dict(component.files)
        try:
            with tarfile.open(archive, "r:*") as tar:
                for entry in tar:
                    place = missing.pop(_inside(entry.name), "") if entry.isreg() else ""
                    if place:
                        entry.name, entry.uid, entry.gid, entry.uname, entry.gname = place, 0, 0, "root", "root"
                        entry.mode = 0o755
                        self._add(entry, tar.extractfile(entry))
        except (tarfile.TarError, EOFError) as error:
            raise ContentError(f"component {component.name}: not an archive: {error}") from error
        if missing:
            raise ContentError(
                f"component {component.name} {component.version}: its archive has no {next(iter(missing))}"
            )

    def add_tree(self, tree: Path, place: str, *, epoch: int = 0) -> None:
        """All files below a directory, as root's."""
        for path in sorted(tree.rglob("*")):
            entry = self._tar.gettarinfo(str(path), f"{place}/{path.relative_to(tree)}")
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            entry.mtime = epoch
            if entry.isreg():
                with open(path, "rb") as data:
                    self._add(entry, data)
            else:
                self._add(entry, None)

    def add_file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.uname, entry.gname = len(data), mode, "root", "root"
        self._add(entry, io.BytesIO(data))

    def add_link(self, name: str, target: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        self._add(entry, None)

    def finish_system(self) -> None:
        """What the scripts of Debian's packages would have made."""
        for name in ("passwd", "group"):
            self.add_file(f"etc/{name}", self.kept.get(f"usr/share/base-passwd/{name}.master", b""))
        if nsswitch := self.kept.get("usr/share/base-files/nsswitch.conf"):
            self.add_file("etc/nsswitch.conf", nsswitch)
        roots = [data for name, data in sorted(self.kept.items()) if name.startswith("usr/share/ca-certificates/")]
        self.add_file("etc/ssl/certs/ca-certificates.crt", b"".join(roots))
        for name, target in _LINKS.items():
            if str(PurePosixPath(name).parent / target) in self._names:
                self.add_link(name, target)

    def _add(self, entry: tarfile.TarInfo, data: IO[bytes] | None) -> None:
        if entry.isdir() and entry.name in self._names:
            return  # the first package's word on a directory counts, as with dpkg
        self._names.add(entry.name)
        self._tar.addfile(entry, data)


def is_left_out(name: str, patterns: Iterable[str]) -> bool:
    """Whether the last pattern that matches takes `name` out; one that begins with ! takes it in."""
    out = False
    for pattern in patterns:
        if fnmatchcase(name, pattern.removeprefix("!")):
            out = not pattern.startswith("!")
    return out


def _inside(name: str) -> str:
    """A member's name as a path below the root.

    Raises:
        LayerInvalid: it leads out.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise LayerInvalid(f"{name}: leads out of the root directory")
    return "/".join(parts)


def _members(file: BinaryIO) -> Iterator[tuple[str, IO[bytes]]]:
    """The members of an ar archive; each is to be read before the next."""
    if file.read(len(_AR)) != _AR:
        raise ValueError("no ar archive")
    while header := file.read(_HEADER):
        if len(header) < _HEADER:
            raise ValueError("cut off")
        size = int(header[48:58])
        start = file.tell()
        yield header[:16].decode("ascii").strip().rstrip("/"), cast(IO[bytes], _Part(file, size))
        file.seek(start + size + size % 2)


class _Part(io.RawIOBase):
    """A stretch of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        if len(data) < wanted:
            raise EOFError("cut off")
        self._left -= len(data)
        return data


def metadata_of(version: str, requirements: Iterable[str]) -> Mapping[str, bytes]:
    """The files of a .dist-info that says that knarr is installed, where its own files were only copied."""
    needs = "".join(f"Requires-Dist: {each}\n" for each in requirements)
    return {
        "METADATA": f"Metadata-Version: 2.1\nName: knarr\nVersion: {version}\n{needs}".encode(),
        "INSTALLER": b"knarr\n",
    }
