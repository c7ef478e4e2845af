"""What a machine offers for builds: privileges, kernel, snapshots, runtime, emulators."""

from __future__ import annotations

import os
from collections.abc import Iterator

from knarr.config import Settings
from knarr.errors import KnarrError
from knarr.record import record
from knarr.spec.platform import Platform, host_platform

_ARCHITECTURES = ("amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x")


@record
class Finding:
    """One thing that was looked at. `verdict`: ok, limited (works, with less) or WRONG."""

    verdict: str
    subject: str
    text: str
    hint: str = ""


def look(settings: Settings) -> Iterator[Finding]:
    """Look at this machine; nothing is changed but for a trial mount that is taken off again."""
    from knarr.snapshot.namespace import private_mounts

    isolated = private_mounts()
    machine = os.uname()
    yield Finding("ok", "kernel", f"Linux {machine.release} on {host_platform()}")
    yield _privileges()
    yield Finding("ok", "state", str(settings.root))
    yield (
        Finding("ok", "mounts", "builds have mounts of their own, which nobody else sees")
        if isolated
        else Finding("limited", "mounts", "builds mount in this machine's own namespace")
    )
    yield _snapshots(settings)
    yield _runtime(settings)
    yield from _platforms(settings)


def _privileges() -> Finding:
    if os.geteuid() == 0:
        return Finding("ok", "user", "root")
    return Finding("limited", "user", f"uid {os.geteuid()}", "steps with RUN need root")


def _snapshots(settings: Settings) -> Finding:
    from knarr.snapshot.choose import why_not_overlayfs

    os.makedirs(settings.snapshots, mode=0o711, exist_ok=True)
    reason = why_not_overlayfs(settings.snapshots)
    if reason:
        return Finding("limited", "snapshots", "native (each step copies its tree)", f"no overlayfs: {reason}")
    return Finding("ok", "snapshots", "overlayfs")


def _runtime(settings: Settings) -> Finding:
    from knarr.runtime import oci

    try:
        return Finding("ok", "runtime", oci.choose(settings.run, settings.oci_runtime).path)
    except KnarrError as error:
        return Finding("WRONG", "runtime", error.message, error.hint)


def _platforms(settings: Settings) -> Iterator[Finding]:
    from knarr.runtime.emulate import Emulator

    emulator = Emulator(settings.run / "binfmt")
    try:
        for platform in map(Platform.parse, _ARCHITECTURES):
            try:
                how = emulator.emulation(platform)
            except KnarrError as error:
                yield Finding("limited", str(platform), "cannot run", error.hint)
                continue
            if how is None:
                yield Finding("ok", str(platform), "runs by itself")
            else:
                where = "a table of knarr's own" if how.user_namespace else "this machine's binfmt_misc"
                yield Finding("ok", str(platform), f"emulated, by {where}")
    finally:
        emulator.close()
