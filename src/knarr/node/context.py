"""The build context of a node image: the tars that `Dockerfile` adds, out of what `gather` found."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

from knarr.node import services, wheels
from knarr.node.cache import Cache
from knarr.node.components import ComponentList
from knarr.node.gather import Parts
from knarr.node.rootfs import RootTar, metadata_of

DOCKERFILE = Path(__file__).with_name("Dockerfile")
IMAGES = "usr/share/knarr/images"  # archives that the node imports when it starts
_PROGRAM = b"#!/usr/bin/python3\nfrom knarr.cli import command\n\ncommand()\n"

# What `docker buildx` and `knarr build --builder kube-pod://` start in a container to reach the daemon there.
_DIAL = b"""\
#!/bin/sh
case " $* " in *" dial-stdio "*) exec knarr builder dial-stdio ;; esac
echo "buildctl: only dial-stdio is here: the program itself is not in this image" >&2
exit 1
"""


def write(context: Path, listed: ComponentList, parts: Parts, cache: Cache, *, pause: Path | None) -> None:
    """The tars for one architecture. `pause` is an archive of the image that pods begin with.

    Raises:
        KnarrError: a part is not what it should be.
    """
    own = {each.package: each for each in listed.packages}
    with RootTar(context / f"system-{parts.arch}.tar", listed.leave_out) as system:
        for package in parts.packages:
            if package.name not in own:
                system.add_package(cache.path(package.sha256))
        system.finish_system()
    with RootTar(context / f"components-{parts.arch}.tar", listed.leave_out) as tar:
        for package in parts.packages:
            if package.name in own:
                tar.add_package(cache.path(package.sha256), own[package.name].leave_out)
        for component in parts.archives:
            tar.add_archive(cache.path(component.sha256[parts.arch]), component)
        tar.add_file("usr/share/knarr/components", _told(listed).encode())
    with RootTar(context / f"knarr-{parts.arch}.tar") as tar, cache.draft("knarr's libraries") as place:
        _knarr(tar, place, listed, parts, cache)
        if pause is not None:
            tar.add_file(f"{IMAGES}/pause.tar", pause.read_bytes())
        for name, data in services.FILES.items():
            tar.add_file(name, data)
        tar.add_link("opt/cni/bin", "/usr/lib/cni")
        if not any(each.name == "buildctl" for each in parts.archives):
            tar.add_file("usr/local/bin/buildctl", _DIAL, 0o755)


def extract(parts: Parts, cache: Cache, package: str, member: str, target: Path) -> bool:
    """Write one file of a package; False if that package is not there."""
    found = next((each for each in parts.packages if each.name == package), None)
    if found is None:
        return False
    import tarfile

    with cache.draft(package) as place:
        with RootTar(place / "all.tar") as tar:
            tar.add_package(cache.path(found.sha256))
        with tarfile.open(place / "all.tar") as tar, open(target, "wb") as out:
            data = tar.extractfile(member)
            assert data is not None
            shutil.copyfileobj(data, out)
    target.chmod(0o755)
    return True


def _knarr(tar: RootTar, place: Path, listed: ComponentList, parts: Parts, cache: Cache) -> None:
    """knarr and its libraries, where the system's Python looks."""
    libraries, files = place / "libraries", place / "wheels"
    files.mkdir()
    for wheel in parts.wheels:
        (files / wheel.file).symlink_to(cache.path(wheel.sha256))
    wheels.unpack(libraries, sorted(files.iterdir()), parts.arch, listed.python)
    shutil.rmtree(libraries / "bin", ignore_errors=True)
    where = wheels.package_directory()
    shutil.copytree(where, libraries / "knarr", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    information = libraries / f"knarr-{version('knarr')}.dist-info"
    information.mkdir()
    for name, data in metadata_of(version("knarr"), wheels.requirements()).items():
        (information / name).write_bytes(data)
    tar.add_tree(libraries, f"usr/local/lib/python{listed.python}/dist-packages")
    tar.add_file("usr/local/bin/knarr", _PROGRAM, 0o755)


def _told(listed: ComponentList) -> str:
    """What is in the image, a line each."""
    own = f"knarr {version('knarr')}\n"
    return own + "".join(f"{each.name} {each.version}\n" for each in listed.components)
