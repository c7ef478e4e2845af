"""Real builds by the real command, and images opened for looking."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Image:
    """One platform's image out of an OCI archive: its config, its manifest, and its files as the layers leave them."""

    config: dict[str, Any]
    manifest: dict[str, Any]
    files: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    layers: list[list[str]] = field(default_factory=list)

    def mode(self, path: str) -> tuple[int, int, int]:
        """(permission bits, uid, gid)."""
        entry = self.files[path]
        return entry.mode, entry.uid, entry.gid


def open_archive(path: Path) -> list[Image]:
    """The images of an OCI archive, in the order of its index; attestations are none."""
    with tarfile.open(path) as archive:
        blobs = {m.name: archive.extractfile(m).read() for m in archive if m.isreg()}  # type: ignore[union-attr]

    def blob(descriptor: Mapping[str, Any]) -> bytes:
        return blobs["blobs/" + descriptor["digest"].replace(":", "/")]

    entry = json.loads(blobs["index.json"])["manifests"][0]
    document = json.loads(blob(entry))
    listed = [m for m in document.get("manifests", ()) if "vnd.docker.reference.type" not in m.get("annotations", {})]
    manifests = [json.loads(blob(m)) for m in listed] if "manifests" in document else [document]
    return [_image(manifest, blob) for manifest in manifests]


def _image(manifest: dict[str, Any], blob: Callable[[Mapping[str, Any]], bytes]) -> Image:
    image = Image(json.loads(blob(manifest["config"])), manifest)
    for layer in manifest["layers"] or ():
        data = blob(layer)
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)) as tar:
            names = []
            for entry in tar:
                names.append(entry.name)
                _apply(image, tar, entry)
            image.layers.append(names)
    return image


def _apply(image: Image, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
    directory, _, name = entry.name.rpartition("/")
    if name.startswith(".wh."):
        gone = f"{directory}/{name[4:]}".lstrip("/")
        for path in [p for p in image.files if p == gone or p.startswith(gone + "/")]:
            del image.files[path]
        return
    if not entry.isdir():
        for path in [p for p in image.files if p.startswith(entry.name + "/")]:
            del image.files[path]
    image.files[entry.name] = entry
    if entry.isreg():
        image.contents[entry.name] = tar.extractfile(entry).read()  # type: ignore[union-attr]
    elif entry.islnk():
        image.contents[entry.name] = image.contents[entry.linkname]


class Knarr:
    """The command on a state directory of its own."""

    def __init__(self, root: Path, hosts_dir: Path, work: Path) -> None:
        self.root = root
        self.work = work
        self.prefix: list[str] = []  # a command that runs the command: in a mount namespace, say
        self.env = {
            **os.environ,
            "KNARR_ROOT": str(root),
            "KNARR_HOSTS_DIR": str(hosts_dir),
            "DOCKER_CONFIG": str(work / "docker-config"),
        }

    def run(self, *argv: str, check: bool = True, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "knarr", *argv],
            env=self.env,
            cwd=self.work,
            input=stdin.decode() if stdin is not None else None,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            raise AssertionError(f"knarr {' '.join(argv)}: {done.returncode}\n{done.stderr}\n{done.stdout}")
        return done

    def build(self, dockerfile: str, *options: str, context: Path | None = None) -> Image:
        """Build and open the result (one platform)."""
        return self.build_all(dockerfile, *options, context=context)[0]

    def build_all(self, dockerfile: str, *options: str, context: Path | None = None) -> list[Image]:
        archive = self.work / "out.tar"
        self.run(*self.command(dockerfile, *options, context=context), "-o", f"type=oci,dest={archive}")
        return open_archive(archive)

    def command(self, dockerfile: str, *options: str, context: Path | None = None) -> list[str]:
        file = self.work / "Dockerfile.test"
        file.write_text(dockerfile)
        directory = context or self.work / "context"
        directory.mkdir(exist_ok=True)
        return ["build", "--progress=plain", "-f", str(file), *options, str(directory)]


@pytest.fixture
def knarr(bases: Any, tmp_path: Path) -> Knarr:
    return Knarr(tmp_path / "state", bases.hosts_dir, tmp_path)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """The context of build.md's measured vectors: f 0664, d/sub 0750, lnk→f, dlnk→d, archives."""
    root = tmp_path / "context"
    (root / "d/sub").mkdir(parents=True)
    (root / "f").write_text("f\n")
    (root / "d/a").write_text("a\n")
    (root / "d/sub/b").write_text("b\n")
    os.chmod(root / "f", 0o664)
    os.chmod(root / "d/a", 0o644)
    os.chmod(root / "d/sub", 0o750)
    os.symlink("f", root / "lnk")
    os.symlink("d", root / "dlnk")
    _archive(root / "a.tar")
    (root / "notatar.bin").write_bytes((root / "a.tar").read_bytes())
    (root / "a.tgz").write_bytes(gzip.compress((root / "a.tar").read_bytes()))
    (root / "empty.tar.gz").write_bytes(b"")
    os.chmod(root / "empty.tar.gz", 0o644)
    return root


def _archive(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        top = tarfile.TarInfo(".")
        top.type, top.mode, top.uid, top.gid = tarfile.DIRTYPE, 0o700, 55, 66
        tar.addfile(top)
        member = tarfile.TarInfo("member")
        member.mode, member.uid, member.gid, member.size = 0o640, 55, 66, 3
        tar.addfile(member, io.BytesIO(b"hi\n"))
