"""Makes the image of the tests' frontend: the Python that runs the tests, with what the frontend imports.

No image of a frontend can be had where the tests run, so the interpreter, its
standard library, gRPC and knarr's own messages are packed as they lie on this
machine, with the libraries that they are linked to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
_LEFT_OUT = (
    "__pycache__",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "ensurepip",
    "tkinter",
    "site-packages",
    "dist-packages",
)
_PACKAGES = ("grpc", "google", "typing_extensions")


def make_context(directory: Path) -> None:
    """Write the build context of the image: a Dockerfile, and the tree that it copies."""
    root = directory / "root"
    interpreter = Path(os.path.realpath(sys.executable))
    _copy(interpreter, root)
    _copy(Path(sysconfig.get_path("stdlib")), root)
    packages = root / "packages"
    for name in _PACKAGES:
        _package(name, packages)
    import knarr

    shutil.copytree(Path(knarr.__file__).parent, packages / "knarr", ignore=_ignored)
    _libraries(root, [interpreter, *packages.rglob("*.so"), *root.rglob("lib-dynload/*.so")])
    shutil.copy(HERE / "frontend.py", root / "frontend.py")
    (directory / "Dockerfile").write_text(
        "FROM scratch\n"
        "COPY root /\n"
        f'ENV PYTHONPATH=/packages PYTHONHOME="{sys.base_prefix}" PYTHONDONTWRITEBYTECODE=1\n'
        "LABEL moby.buildkit.frontend.caps=moby.buildkit.frontend.subrequests\n"
        f'ENTRYPOINT ["{interpreter}", "/frontend.py"]\n'
    )


def _package(name: str, packages: Path) -> None:
    for entry in map(Path, sys.path):
        if (entry / name).is_dir():
            shutil.copytree(entry / name, packages / name, ignore=_ignored)
            return
        if (entry / f"{name}.py").is_file():
            packages.mkdir(parents=True, exist_ok=True)
            shutil.copy(entry / f"{name}.py", packages)
            return
    raise AssertionError(f"{name} is not installed")


def _libraries(root: Path, linked: list[Path]) -> None:
    """What the dynamic linker would load, at the places where it looks for it."""
    found: set[str] = set()
    for path in linked:
        told = subprocess.run(["ldd", str(path)], capture_output=True, text=True).stdout
        found.update(re.findall(r"(/\S+) \(0x", told))
    for library in found:
        _copy(Path(library), root)


def _copy(path: Path, root: Path) -> None:
    target = root / str(path).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, ignore=_ignored, dirs_exist_ok=True)
    else:
        shutil.copy(path, target)  # what a symlink leads to


def _ignored(directory: str, names: list[str]) -> set[str]:
    return {name for name in names if name in _LEFT_OUT or name.endswith((".a", ".pyi")) or name.startswith("config-")}
