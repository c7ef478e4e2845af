"""Each program of a node asked for its version: an image whose programs run here is one for this machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version

from knarr.record import record
from knarr.runtime import binaryformat

_PROGRAMS = {
    "containerd": ("--version",),
    "ctr": ("--version",),
    "runc": ("--version",),
    "crun": ("--version",),
    "fuse-overlayfs": ("--version",),
    "iptables-legacy": ("--version",),  # the other variant asks the kernel first, which an emulator cannot
    "git": ("--version",),
}
_OPTIONAL = {"crictl": ("--version",), "nerdctl": ("--version",)}
_PLUGINS = ("bridge", "host-local", "loopback", "portmap", "firewall")
# Each has a part in C, of which a wheel for another machine would be a wrong one.
_LIBRARIES = (
    "grpc",
    "aiohttp",
    "bcrypt",
    "google.protobuf",
    "isal.igzip",
    "zstandard",
    "cryptography.hazmat.bindings._rust",
)
_VERSION = r"v?\d+\.\d+[^\s\",]*"
_ASK_S = 60


@record
class Found:
    """A program, and its version or what is wrong."""

    name: str
    version: str = ""
    problem: str = ""


def check() -> tuple[Found, ...]:
    """All that a node needs, and of the optional programs those that are there."""
    return tuple(_look())


def _look() -> Iterator[Found]:
    yield Found("machine", platform.machine())
    yield Found("knarr", version("knarr"))
    for name, words in _PROGRAMS.items():
        yield _asked(name, words)
    for name, words in _OPTIONAL.items():
        if shutil.which(name):
            yield _asked(name, words)
    for name in _PLUGINS:
        there = os.access(f"/usr/lib/cni/{name}", os.X_OK)
        yield _asked(f"/usr/lib/cni/{name}", ()) if there else Found(name, problem="not in /usr/lib/cni")
    for each in binaryformat.FORMATS.values():
        program = f"/usr/bin/qemu-{each.qemu}"
        if os.path.exists(program):
            yield _asked(program, ("--version",))
    for library in _LIBRARIES:
        try:
            import_module(library)
        except ImportError as error:
            yield Found(library, problem=str(error))
        else:
            yield Found(library, "loads")


def _asked(program: str, words: tuple[str, ...]) -> Found:
    name = os.path.basename(program)
    env = {**os.environ, "CNI_COMMAND": "VERSION"}  # without a word: how a CNI plugin is asked
    try:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, timeout=_ASK_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Found(name, problem=str(error))
    said = done.stdout + done.stderr
    if "Failed to re-execute" in said:  # crun starts itself from memory, which an emulator cannot follow
        return Found(name, "there; under an emulator it does not say more")
    if done.returncode:
        return Found(name, problem=(said.splitlines() or [f"status {done.returncode}"])[0])
    # Behind its own name if that is there: some tell of their libraries before.
    match = re.search(rf"{re.escape(name)}\b[^\n]*?({_VERSION})", said) or re.search(f"({_VERSION})", said)
    return Found(name, match[1] if match else "there")
