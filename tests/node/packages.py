"""Debian packages and wheels of a few files, made by dpkg-deb, and a mirror that apt reads, signed by nobody's key."""

from __future__ import annotations

import subprocess
from pathlib import Path


def deb(place: Path, name: str, version: str, files: dict[str, str], *, arch: str = "amd64", depends: str = "") -> Path:
    """A package whose files have these texts; an empty text is a symlink to `target`."""
    tree = place / f"{name}-tree"
    (tree / "DEBIAN").mkdir(parents=True)
    needs = f"Depends: {depends}\n" if depends else ""
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\n"
        f"Maintainer: t <t@example.com>\n{needs}Description: t\n"
    )
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    file = place / f"{name}_{version}_{arch}.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, file], check=True, capture_output=True)
    return file
