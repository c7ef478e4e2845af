"""Base images out of Debian packages, where no public registry can be reached.

busybox for amd64 and arm64 is unpacked from the machine's own apt sources into an OCI
layout with one index. Used by the tests, the benchmarks and the demo.

    python tools/debian_bases.py DIRECTORY
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

EPOCH = 1704067200
PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = ("amd64", "arm64")


def busybox(cache: Path) -> Path:
    """The layout `cache/busybox` (tag `latest`), made unless it is there. Not for two processes at once."""
    layout = cache / "busybox"
    if not (layout / "index.json").exists():
        trees = {arch: _busybox_tree(cache / f"tree-{arch}", arch) for arch in ARCHITECTURES}
        write_layout(layout, trees)
    return layout


def debian(cache: Path) -> Path:
    """The layout `cache/debian` (tag `latest`) of Debian's essential packages, made unless it is there.

    It has the suite and the packages that this machine's apt has indexes of. Not for two processes at once.
    """
    layout = cache / "debian"
    if not (layout / "index.json").exists():
        fields = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
        options = ("--quiet", "--mode=root", "--variant=essential", "--format=tar", "--skip=check/chroot")
        tar = cache / "debian.tar"
        command = ["mmdebstrap", *options, fields["VERSION_CODENAME"].strip('"'), str(tar)]
        subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)})
        shutil.rmtree(layout, ignore_errors=True)
        write_layout(layout, {_architecture(): tar.read_bytes()})
        tar.unlink()
    return layout


def packages(place: Path, *names: str) -> Path:
    """A directory with the packages `names` (and not what they need), as apt gets them."""
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not list(place.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", "-qq", name], cwd=place, check=True, capture_output=True)
    return place


def _architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()


def _busybox_tree(tree: Path, arch: str) -> bytes:
    package = tree.parent / f"package-{arch}"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir()
    foreign = subprocess.run(["dpkg", "--print-foreign-architectures"], capture_output=True, text=True, check=True)
    if arch == "arm64" and "arm64" not in foreign.stdout:
        subprocess.run(["dpkg", "--add-architecture", "arm64"], check=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "download", "-qq", f"busybox-static:{arch}"], cwd=package, check=True)
    subprocess.run(["dpkg-deb", "-x", str(next(package.glob("*.deb"))), "."], cwd=package, check=True)
    binary = next(p for p in (package / "bin/busybox", package / "usr/bin/busybox") if p.exists()).read_bytes()
    applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    return _busybox_tar(binary, [name for name in applets if name != "busybox"])


def _busybox_tar(binary: bytes, applets: list[str]) -> bytes:
    files = {
        "bin/busybox": (0o755, binary),
        "etc/passwd": (0o644, b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"),
        "etc/group": (0o644, b"root:x:0:\ndaemon:x:1:\nstaff:x:50:daemon\n"),
        "etc/hostname": (0o644, b"base\n"),
    }
    modes = {"bin": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777, "proc": 0o755, "sys": 0o755, "dev": 0o755}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in sorted(modes.items()):
            _add(tar, name, tarfile.DIRTYPE, mode)
        for name, (mode, data) in sorted(files.items()):
            _add(tar, name, tarfile.REGTYPE, mode, data)
        for name in applets:
            _add(tar, f"bin/{name}", tarfile.SYMTYPE, 0o777, link="busybox")
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime, entry.size, entry.linkname = kind, mode, EPOCH, len(data), link
    tar.addfile(entry, io.BytesIO(data))


def write_layout(layout: Path, trees: dict[str, bytes]) -> None:
    """An OCI layout with one image of one layer per architecture under the tag `latest`."""
    shutil.rmtree(layout, ignore_errors=True)
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(media_type: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
    entries = []
    for arch, tree in trees.items():
        config = {
            "architecture": arch,
            "os": "linux",
            "created": created,
            "config": {"Env": [PATH_ENV], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tree).hexdigest()}"]},
            "history": [{"created": created, "created_by": "busybox-static"}],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": put("application/vnd.oci.image.config.v1+json", json.dumps(config).encode()),
            "layers": [put("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(tree, 6, mtime=0))],
        }
        entry = put(str(manifest["mediaType"]), json.dumps(manifest).encode())
        entries.append({**entry, "platform": {"os": "linux", "architecture": arch}})
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    top = put(str(index["mediaType"]), json.dumps(index).encode())
    top["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    print(busybox(Path(sys.argv[1])))
